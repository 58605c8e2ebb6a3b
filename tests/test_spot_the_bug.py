"""The slips of docs/spot-the-bug.md: each wrong formula fails a law, and sdekit passes the very same check.

Chains are affine where the score is: a source of draws that moves one draw of a row by one deviation shows their exact
mean and variance. Losses are averaged by Gauss-Hermite quadrature. Nothing is left to chance.
"""

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from problems import F64, MEANS, VARIANCES, gaussians, last
from scipy import stats
from torch import nn

import sdekit as sk
from sdekit.losses import DenoisingScoreMatching, ImplicitScoreMatching, SlicedScoreMatching, VariationalBound
from sdekit.sdes import tables
from sdekit.training import Settings, load_model, save_model, train
from sdekit.training.generators import seeded

PAGE = Path(__file__).parents[1] / "docs" / "spot-the-bug.md"
TABLE = sk.DiscreteVPSDE(tables.linear(20, 1e-3, 0.4))
"""20 steps that leave alpha_bar = 0.0075 of the signal."""
SHORT = sk.DiscreteVPSDE(tables.linear(100, 1e-5, 1e-2))
"""100 steps that leave alpha_bar = 0.605 of it."""


class Draws:
    """Draws at their mean; row k + 1 has the k-th draw one deviation above it.

    Of an affine chain whose row 0 starts at the mean and whose last row starts one deviation above it, row 0 is the
    mean and the squares of the other rows' distances from it add up to the variance, whatever the law of the draws.
    """

    def __init__(self):
        self.k = 0

    def _draw(self, shape, mean, std):
        x = torch.full(tuple(shape), mean, dtype=F64)
        x[self.k + 1] += std
        self.k += 1
        return x

    def normal(self, shape, *, stream=None, dtype=None, device=None):
        return self._draw(shape, 0.0, 1.0)

    def uniform(self, shape):
        return self._draw(shape, 0.5, 12**-0.5)

    def __call__(self, x, t, s, stream="path"):
        return self._draw(x.shape, 0.0, 1.0)


def rows(chain, mean, variance, draws):
    """The end of an affine chain from the law N(mean, variance): its mean, (8,), and all responses, (draws + 1, 8)."""
    x = mean.expand(draws + 2, 8).clone()
    x[-1] += variance.sqrt()
    y = chain(x, Draws())
    return y[0], y[1:] - y[0]


def close(found, wanted, tolerance=1e-10):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


# Langevin dynamics


def langevin_with_uniforms(score, x, h, steps, source):
    """The slip: rand where the draw must be normal."""
    for _ in range(steps):
        x = x + h * score(x) + math.sqrt(2 * h) * source.uniform(x.shape)
    return x


def langevin_that_shrinks(score, x, h, steps, source):
    """The slip: each step is 0.9 times the one before, so that all of them together are less than 10 h."""
    for _ in range(steps):
        x = x + h * score(x) + math.sqrt(2 * h) * source.normal(x.shape)
        h *= 0.9
    return x


def langevin(score, x, h, steps, source):
    return sk.langevin(score, x, step_size=h, steps=steps, noise=source)


def law_of_langevin(chain):
    """The start is forgotten, and the law that is kept is N(m, v / (1 - h / (2 v))); see docs/mathematics.md."""
    h, steps, v = 0.05, 2000, VARIANCES + 0.3
    mean, responses = rows(lambda x, z: chain(lambda x: (MEANS - x) / v, x, h, steps, z), MEANS + 3, v, steps)
    assert float(responses[-1].abs().max()) < 1e-10
    close(mean, MEANS)
    close(responses.square().sum(0), v / (1 - h / (2 * v)))


# The forward process: (x0, source, table) -> x_T


def forward_with_variances(x, source, sde):
    """The slip: beta z, where the variance is beta."""
    for b in sde.betas:
        x = (1 - b).sqrt() * x + b * source.normal(x.shape)
    return x


def forward_with_uniforms(x, source, sde):
    """The slip: rand for randn."""
    for b in sde.betas:
        x = (1 - b).sqrt() * x + b.sqrt() * source.uniform(x.shape)
    return x


def forward_by_marginals(x, source, sde):
    """The slip: x_t is drawn from its predecessor by the factors of q(x_t | x_0)."""
    for bar in (1 - sde.betas).cumprod(0):
        x = bar.sqrt() * x + (1 - bar).sqrt() * source.normal(x.shape)
    return x


def forward_without_its_source(x, source, sde):
    """The slip: an argument for the noise that nobody reads."""
    own = sk.Noise(0)
    for k, b in enumerate(sde.betas):
        x = (1 - b).sqrt() * x + b.sqrt() * own.normal(x.shape, stream=("own", k), dtype=x.dtype)
    return x


def forward(x, source, sde):
    return last(sk.simulate(sde, x, source, grid=sde.times.flip(0))).x


def law_of_unit_variance(process):
    """Variance-preserving: N(0, 1) goes in, N(0, 1) comes out."""
    n = len(TABLE.betas)
    mean, responses = rows(lambda x, z: process(x, z, TABLE), torch.zeros(8, dtype=F64), torch.ones(8, dtype=F64), n)
    close(mean, torch.zeros_like(mean))
    close(responses.square().sum(0), torch.ones_like(mean))


def law_of_the_marginal(process):
    """The steps from one level to the next compose to q(x_T | x_0) = N(alpha x_0, sigma^2)."""
    n, bar = len(TABLE.betas), float((1 - TABLE.betas).prod())
    mean, responses = rows(lambda x, z: process(x, z, TABLE), MEANS, torch.ones(8, dtype=F64), n)
    close(mean, math.sqrt(bar) * MEANS)
    close(responses[-1], torch.full((8,), math.sqrt(bar), dtype=F64))
    close(responses[:-1].square().sum(0), torch.full((8,), 1 - bar, dtype=F64))


class Zeros:
    """A source of zeros."""

    def __call__(self, x, t, s, stream="path"):
        return torch.zeros_like(x)


def law_of_the_given_noise(process):
    """The noise that is passed in is the noise that is used: of zeros, the end is the mean."""
    bar = float((1 - TABLE.betas).prod())
    close(process(MEANS[None], Zeros(), TABLE)[0], math.sqrt(bar) * MEANS)


# The start: table -> (mean, standard deviation) of what a sampler starts from, for data N(MEANS, VARIANCES)


def standard_start(sde):
    """The slip: N(0, 1), whatever is left of the data at the last level."""
    return torch.zeros(8, dtype=F64), torch.ones(8, dtype=F64)


def fitted_start(sde):
    prior = sde.with_prior(MEANS, VARIANCES.sqrt()).prior
    return prior.mean, prior.std


def law_of_the_start(start):
    """KL(p_T || start) is below 0.001 nats a coordinate."""
    bar = float((1 - SHORT.betas).prod())
    mean, std = start(SHORT)
    v = bar * VARIANCES + 1 - bar
    kl = 0.5 * (v / std**2 - 1 - (v / std**2).log() + ((math.sqrt(bar) * MEANS - mean) / std) ** 2)
    assert float(kl.max()) < 1e-3


# The reverse process: (eps, x_T, source, table) -> x_0, by DDPM's loop


def reverse(eps, x, source, sde, *, masked=True, variance="upper", factor="alpha"):
    """Ho et al. 2020, algorithm 2, with switches for the slips."""
    b, bar = sde.betas, (1 - sde.betas).cumprod(0)
    before = torch.cat([torch.ones(1, dtype=F64), bar[:-1]])
    posterior = b * (1 - before) / (1 - bar)
    posterior[0] = posterior[1]  # "clipped": as in Improved DDPM's code
    spread = b if variance == "upper" else posterior
    for i in reversed(range(len(b))):
        mean = (x - b[i] / (1 - bar[i]).sqrt() * eps(x, i)) / (1 - b[i] if factor == "alpha" else bar[i]).sqrt()
        z = source.normal(x.shape)
        x = mean + (spread[i].sqrt() * z if i or not masked else 0.0)
    return x


def reverse_with_an_unused_mask(eps, x, source, sde):
    """The slip: a mask of the last step is made, and the clipped variance is added in every step."""
    return reverse(eps, x, source, sde, masked=False, variance="posterior")


def reverse_without_a_mask(eps, x, source, sde):
    """The slip: sqrt(beta_1) z in the last step."""
    return reverse(eps, x, source, sde, masked=False)


def reverse_by_alpha_bar(eps, x, source, sde):
    """The slip: sqrt(alpha_bar_t) for sqrt(alpha_t) in the mean."""
    return reverse(eps, x, source, sde, factor="alpha_bar")


def ancestral(eps, x, source, sde):
    model = sk.models.FromFunction(sde, eps=lambda x, t: eps(x, round(float(t)) - 1))
    return last(sk.trajectory(model, sk.solvers.Ancestral("upper"), x, sde.times.flip(0), source)).x


def oracle(x, i):
    return gaussians(TABLE)(x, float(i + 1)).eps


def ends(sampler):
    """The end of a run from the law p_T with the exact eps."""
    bar, n = float((1 - TABLE.betas).prod()), len(TABLE.betas)
    start = math.sqrt(bar) * MEANS, bar * VARIANCES + 1 - bar
    return rows(lambda x, z: sampler(oracle, x, z, TABLE), *start, n)


def law_of_the_last_step(sampler):
    """One deviation of noise in the last step leaves the samples unchanged."""
    assert float(ends(sampler)[1][len(TABLE.betas) - 1].abs().max()) == 0.0


def law_of_the_mean(sampler):
    """The exact eps carries the mean of p_T to the mean of the data: each step's mean is the posterior's."""
    close(ends(sampler)[0], MEANS)


# The variance of the reverse step: table -> its logarithm at each level


def log_posterior(sde):
    """The slip: log beta~, where beta~ of the first step is 0."""
    bar = (1 - sde.betas).cumprod(0)
    return (sde.betas * (1 - torch.cat([torch.ones(1, dtype=F64), bar[:-1]])) / (1 - bar)).log()


def log_posterior_clipped(sde):
    """What is suspected: the second entry in place of the first."""
    found = log_posterior(sde)
    return torch.cat([found[1:2], found[1:]])


def learned_range_at_its_end(sde):
    level = sde.level(sde.times, torch.zeros(len(sde.times), 1, dtype=F64))
    value = torch.full((len(sde.times), 1), -1.0, dtype=F64)
    return sk.models.LearnedRange().log_var(value, level, sde.previous(level))[:, 0]


def law_of_the_variance(log_var):
    """Finite at every level; from the second on var(x_s | x_t, x_0), by Bayes' rule in precisions."""
    found, bar = log_var(TABLE), (1 - TABLE.betas).cumprod(0)
    assert bool(found.isfinite().all())
    precision = 1 / (1 - bar[:-1]) + (1 - TABLE.betas[1:]) / TABLE.betas[1:]
    close(found[1:], -precision.log())


# Losses: (model, x0, eps, level) -> a row's loss


def normals(d, n):
    """Gauss-Hermite nodes of d independent normals, (N, d), and their weights."""
    v, w = np.polynomial.hermite_e.hermegauss(n)
    points = torch.tensor(list(itertools.product(v, repeat=d)), dtype=F64)
    return points, torch.tensor(list(itertools.product(w / w.sum(), repeat=d)), dtype=F64).prod(1)


class Given:
    """A source that gives this eps, and this direction."""

    def __init__(self, eps, direction=None):
        self.eps, self.direction = eps, direction

    def normal(self, shape, *, stream, dtype=None, device=None):
        return self.eps

    def rademacher(self, like, *, stream):
        return self.direction.expand(like.shape)


def against(target):
    """|score - target|^2 / 2, at the level of a noisy datum."""

    def loss(model, x0, eps, t):
        level = model.sde.level(t, x0)
        x = level.alpha * x0 + level.sigma * eps
        return 0.5 * (model(x, level).score - target(x - level.alpha * x0, eps, level.sigma)).square().sum(1)

    return loss


opposite = against(lambda gap, eps, sigma: gap / sigma**2)
minus_noise = against(lambda gap, eps, sigma: -eps)
minus_noise_over_sigma = against(lambda gap, eps, sigma: -eps / sigma)


def denoising(model, x0, eps, t):
    return DenoisingScoreMatching(times=t, reduction="sum").per_sample(model, x0, Given(eps))


def expected(loss, model, t):
    v, w = normals(2, 12)
    return (w * loss(model, 0.8 + math.sqrt(0.3) * v[:, :1], v[:, 1:], t)).sum()


LEVELS = (0.02, 0.1, 0.3, 0.8)


def exact(sde):
    return sk.models.GaussianMixture(sde, [1.0], torch.tensor([[0.8]], dtype=F64), 0.3)


def law_of_the_target(loss):
    """At the exact score the gradient along 1, x and the score is 0 to 1e-9 of the curvature."""
    sde = sk.VPSDE()
    for t in LEVELS:
        c = torch.zeros(3, dtype=F64, requires_grad=True)

        def score(x, t, c=c):
            right = exact(sde)(x, t).score
            return right + c[0] + c[1] * x + c[2] * right

        model = sk.models.FromFunction(sde, score=score)
        (slope,) = torch.autograd.grad(expected(loss, model, t), c, create_graph=True)
        (bend,) = torch.autograd.grad(slope[2], c)
        assert float(slope.detach().abs().max()) < 1e-9 * float(bend[2])


def law_of_the_floor(loss):
    """At the exact score a coordinate costs at most 1, at any level."""
    for sde in (sk.VPSDE(), sk.VESDE()):
        for t in torch.logspace(math.log10(sde.t_min), math.log10(sde.t_max), 5, dtype=F64).clamp(sde.t_min, sde.t_max):
            assert float(expected(loss, exact(sde), float(t))) <= 1.0


# Sliced score matching: (model, x, direction) -> a row's loss


def sliced_without_a_side(model, x, v):
    """The slip: J v without the v before it."""
    x = x.clone().requires_grad_()
    score = model(x, model.sde.t_min).score
    (row,) = torch.autograd.grad(score, x, torch.ones_like(score))
    return ((row * v) + 0.5 * score.square()).sum(1).detach()


def sliced_by_elements(model, x, v):
    """What is suspected: v (J v) + s^2 / 2, element by element, in place of (v^T s)^2 / 2."""
    x = x.clone().requires_grad_()
    score = model(x, model.sde.t_min).score
    (row,) = torch.autograd.grad(score, x, v.expand(score.shape))
    return (v * row + 0.5 * score.square()).sum(1).detach()


def sliced(model, x, v):
    return SlicedScoreMatching(times=None, reduction="sum").per_sample(model, x, Given(None, v)).detach()


def law_of_the_trace(loss):
    """Averaged over all signs the row is that of the exact trace."""
    model = sk.models.FromFunction(sk.VPSDE(), score=lambda x, t: torch.sin(x) + 0.5 * x.roll(1, 1) ** 2 - x)
    x = normals(3, 3)[0]
    wanted = ImplicitScoreMatching(times=None, reduction="sum").per_sample(model, x, Given(None)).detach()
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=F64)
    close(torch.stack([loss(model, x, v) for v in signs]).mean(0), wanted)


# The decoder: (x0, mean, std) -> -log p(x0 | x_1)


def eight_bits(x, mean, std):
    """The slip: the mass of a bin of 8-bit data for data that are not."""
    edges = (x - 1 / 255 - mean) / std, (x + 1 / 255 - mean) / std
    return torch.tensor(-np.log(np.maximum(stats.norm.cdf(edges[1]) - stats.norm.cdf(edges[0]), 1e-12)))


def gaussian_decoder(x, mean, std):
    sde = sk.DiscreteVPSDE([std**2, 0.5])
    model = sk.models.FromFunction(sde, x0=lambda x, t: torch.full_like(x, mean))
    return VariationalBound("upper").terms(model, x[:, None], Given(torch.zeros(len(x), 1, dtype=F64))).decoder


def law_of_a_density(decoder):
    """exp(-L_0) integrates to 1 over x0."""
    x = torch.linspace(-0.5, 0.7, 4001, dtype=F64)
    close(torch.trapezoid(torch.exp(-decoder(x, 0.1, 0.05)), x), torch.ones((), dtype=F64), 1e-8)


# Averages: (model, directory) -> a function that gives the weights that were kept


def small():
    with seeded(0):
        network = sk.networks.MLP(event_shape=[2], width=8, depth=1, embedding=8)
        nn.init.normal_(network.head.weight, std=0.3)
    return sk.ddpm(network)


def live_state(model, path):
    """The slip: a state dict holds the tensors themselves."""
    state = model.state_dict()
    return lambda: state


def saved(model, path):
    save_model(path / "model.safetensors", model)
    return lambda: load_model(path / "model.safetensors").state_dict()


def law_of_a_snapshot(keep, path):
    """What was kept is what there was, whatever training does next."""
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    read = keep(model, path)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert all(torch.equal(read()[name], value) for name, value in before.items())


def last_weights(trained, path):
    """The slip: an average is kept up, and the last weights are sampled."""
    return trained.model


def loaded(trained, path):
    return load_model(path / "run")


def law_of_the_average(serve, path):
    """What is sampled is a_n = d_n a_(n-1) + (1 - d_n) w_n of the weights after each step."""
    settings, track = Settings(steps=5, batch_size=8, ema=0.6, lr=1e-2), []
    model, data = small(), sk.Noise(5).normal((50, 2), stream="data")
    average = {name: p.detach().double() for name, p in model.named_parameters()}

    def follow(trained):
        track.append({name: p.detach().double() for name, p in trained.model.named_parameters()})

    trained = train(model, data, settings, out=path / "run", callback=follow)
    for n, after in enumerate(track, 1):
        d = min(0.6, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * after[name] for name in average}
    for name, p in serve(trained, path).named_parameters():
        close(p.detach().double(), average[name], 1e-6)


class Slip(NamedTuple):
    """A wrong formula, the right one, and the law that tells them apart."""

    wrong: Callable
    right: Callable
    law: Callable


SLIPS = {
    "uniform Langevin noise": Slip(langevin_with_uniforms, langevin, law_of_langevin),
    "shrinking Langevin step": Slip(langevin_that_shrinks, langevin, law_of_langevin),
    "beta for its root": Slip(forward_with_variances, forward, law_of_unit_variance),
    "uniform forward noise": Slip(forward_with_uniforms, forward, law_of_unit_variance),
    "noise argument unused": Slip(forward_without_its_source, forward, law_of_the_given_noise),
    "marginal for kernel": Slip(forward_by_marginals, forward, law_of_the_marginal),
    "signal left at T": Slip(standard_start, fitted_start, law_of_the_start),
    "mask never applied": Slip(reverse_with_an_unused_mask, ancestral, law_of_the_last_step),
    "noise in the last step": Slip(reverse_without_a_mask, ancestral, law_of_the_last_step),
    "alpha_bar for alpha": Slip(reverse_by_alpha_bar, ancestral, law_of_the_mean),
    "log of zero": Slip(log_posterior, learned_range_at_its_end, law_of_the_variance),
    "sign of the target": Slip(opposite, denoising, law_of_the_target),
    "target without 1/sigma": Slip(minus_noise, denoising, law_of_the_target),
    "no weight": Slip(minus_noise_over_sigma, denoising, law_of_the_floor),
    "one side of the slice": Slip(sliced_without_a_side, sliced, law_of_the_trace),
    "8-bit decoder": Slip(eight_bits, gaussian_decoder, law_of_a_density),
    "live state dict": Slip(live_state, saved, law_of_a_snapshot),
    "average never sampled": Slip(last_weights, loaded, law_of_the_average),
}

SUSPECTS = {
    "target -noise/sigma": (minus_noise_over_sigma, law_of_the_target),
    "clipped log-variance": (log_posterior_clipped, law_of_the_variance),
    "slices element by element": (sliced_by_elements, law_of_the_trace),
    "DDPM's own loop": (reverse, law_of_the_mean),
}
"""What readers take for a slip, and is none."""

each_slip = pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)


def hold(law, subject, path):
    """Asserts the law; some need a directory."""
    if law in (law_of_a_snapshot, law_of_the_average):
        law(subject, path)
    else:
        law(subject)


@each_slip
def test_the_slip_is_caught(slip, tmp_path):
    with pytest.raises(AssertionError):
        hold(slip.law, slip.wrong, tmp_path)


@each_slip
def test_sdekit_passes(slip, tmp_path):
    hold(slip.law, slip.right, tmp_path)


@pytest.mark.parametrize(("suspect", "law"), SUSPECTS.values(), ids=SUSPECTS)
def test_the_suspect_is_innocent(suspect, law):
    law(suspect)


def test_the_page_names_every_slip_and_every_suspect():
    named = re.findall(r"`(test_\w+)\[([^\]]+)\]`", PAGE.read_text(encoding="utf-8"))
    assert {name for test, name in named if test == "test_the_slip_is_caught"} == set(SLIPS)
    assert {name for test, name in named if test == "test_the_suspect_is_innocent"} == set(SUSPECTS)
