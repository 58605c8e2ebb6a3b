"""Problems with known answers, and noise that reads a sampler's exact moments."""

import math

import torch

import sdekit as sk

F64 = torch.float64
MEANS = torch.tensor([0.0, 1.0, -0.5, 2.0, 0.3, -1.5, 0.7, 0.1], dtype=F64)
VARIANCES = torch.tensor([1.0, 0.25, 2.0, 0.5, 0.04, 1.7, 0.9, 0.3], dtype=F64)


def gaussians(sde):
    """The exact model of eight independent Gaussians, one a coordinate: its score is affine."""

    def score(x, t):
        alpha, sigma = (v if isinstance(t, torch.Tensor) else float(v) for v in (sde.alpha(t), sde.sigma(t)))
        return -(x - alpha * MEANS.to(x)) / (alpha * alpha * VARIANCES.to(x) + sigma * sigma)

    return sk.models.FromFunction(sde, score=score)


def mixture(sde, event=(2,), components=3, seed=0, spread=1.5):
    """The exact model of a mixture with full covariances on any event shape."""
    g = torch.Generator().manual_seed(seed)
    d = math.prod(event)
    means = spread * torch.randn(components, *event, generator=g, dtype=F64)
    roots = 0.4 * torch.randn(components, d, d, generator=g, dtype=F64) / max(d, 1) ** 0.5
    covariances = roots @ roots.mT + 0.05 * torch.eye(d, dtype=F64)
    weights = torch.rand(components, generator=g, dtype=F64) + 0.5
    return sk.models.GaussianMixture(sde, weights, means, covariances)


class Recorded:
    """Noise from a list of draws, whatever the interval: the k-th draw of a run is the k-th tensor."""

    def __init__(self, draws):
        self.draws = list(draws)

    def __call__(self, x, t, s, stream="path"):
        return self.draws.pop(0).to(x)

    def path(self):
        return sk.BrownianPath(0)


class Silent:
    """A source that must not be asked."""

    def __call__(self, x, t, s, stream="path"):
        raise AssertionError("a step that ends at the clean level drew noise")


class Impulses:
    """Noise that is 1 at the k-th draw of row k + 2 and 0 elsewhere: an affine sampler then shows its coefficients."""

    def __init__(self):
        self.k = 0

    def __call__(self, x, t, s, stream="path"):
        z = torch.zeros_like(x)
        if self.k + 2 < len(x):
            z[self.k + 2] = 1.0
        self.k += 1
        return z


def last(states):
    """The last of a run's states."""
    state = None
    for state in states:  # noqa: B007
        pass
    return state


def affine(solver, sde, grid, draws, *, denoise=False, dtype=F64, model=None):
    """An affine sampler's offset, response to x_T and to its draws: (8,), (8,), (draws, 8). No Monte Carlo.

    ``model``: of the process, in place of its own exact one.
    """
    model = gaussians(sde) if model is None else model
    x_T = torch.zeros(2 + draws, 8, dtype=dtype)
    x_T[1] = 1.0
    noise = Impulses()
    x = last(sk.trajectory(model, solver, x_T, grid, noise, denoise=denoise)).x
    assert noise.k == draws, f"{noise.k} draws, not {draws}"
    return x[0], x[1] - x[0], x[2:] - x[0]


def moments(solver, sde, grid, draws, *, denoise=False, dtype=F64, model=None):
    """The sampler's exact mean and variance at the end, from x_T with the law p at the first time."""
    offset, start, noise = affine(solver, sde, grid, draws, denoise=denoise, dtype=dtype, model=model)
    alpha, sigma = float(sde.alpha(float(grid[0]))), float(sde.sigma(float(grid[0])))
    mean = offset + start * (alpha * MEANS).to(dtype)
    variance = start**2 * (alpha**2 * VARIANCES + sigma**2).to(dtype) + (noise**2).sum(0)
    return mean, variance


def energy_distance(x, y):
    """2 E|x - y| - E|x - x'| - E|y - y'|, of the two samples themselves (not negative)."""
    x, y = x.reshape(len(x), -1).double(), y.reshape(len(y), -1).double()
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())
