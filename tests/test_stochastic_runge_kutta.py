"""The stochastic Runge-Kutta method: its formula, its orders on one path, and what they rest on."""

import itertools
import math

import pytest
import torch
from problems import F64, MEANS, VARIANCES, Recorded, last, mixture, moments
from subjects import sdes

import sdekit as sk
from sdekit import grids
from sdekit.certification.checks import slope
from sdekit.solvers import Ancestral, State, StochasticRungeKutta


def test_it_is_sra1s_nodes_and_weights_along_the_path():
    """On a mixture, in y and n: f = 2 eps, y_2 = y - 3/4 h f_1 + W(n_2), y - h (f_1 / 3 + 2 f_2 / 3) + W(n_s), by hand;
    the path is asked for two parts of the step, n_2 = n - 3/4 h between them."""
    sde = sk.VPSDE()
    model = mixture(sde)
    t, s = grids.levels(sde, "log_snr", 30, denoise=False)[14:16]
    x = sk.Noise(1).normal((5, 2), stream="x", dtype=F64)
    z = [sk.Noise(k).normal((5, 2), stream="z", dtype=F64) for k in (2, 3)]
    n, n_s = (level.sigma / level.alpha for level in (t, s))
    h = n - n_s
    n_2 = n - 0.75 * h
    a_2 = 1 / math.sqrt(1 + n_2 * n_2)
    first, second = math.sqrt(n**2 - n_2**2) * z[0], math.sqrt(n_2**2 - n_s**2) * z[1]
    y = x / t.alpha
    f_1 = 2 * model(x, t).eps
    y_2 = y - 0.75 * h * f_1 + first
    f_2 = 2 * model(a_2 * y_2, sde.time_at(torch.tensor(-2 * math.log(n_2), dtype=F64))).eps
    want = s.alpha * (y - h * (f_1 / 3 + 2 * f_2 / 3) + first + second)
    asked = []

    class Asked(Recorded):
        def __call__(self, x, t, s, stream="path"):
            asked.append((t.clock, s.clock, stream))
            return super().__call__(x, t, s, stream)

    got = StochasticRungeKutta().step(model, State(x, t), s, Asked(z)).x
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    for (high, low, stream), (a, b) in zip(asked, ((n, n_2), (n_2, n_s)), strict=True):
        assert stream == "path"
        assert (high, low) == pytest.approx((a * a, b * b), rel=1e-12)


@pytest.mark.parametrize("sde", sdes())
def test_at_one_number_of_evaluations_its_law_is_much_closer_than_ancestral_samplings(sde):
    """Mean and variance of eight Gaussians, exactly: 100 steps of two evaluations beside 200 of one, a tenth of the
    error at most."""
    errors = []
    for solver, steps, draws in ((StochasticRungeKutta(), 100, 200), (Ancestral(), 200, 200)):
        times = grids.log_snr(sde, steps)
        mean, variance = moments(solver, sde, times, draws)
        end = sde.levels(times[-1:])[0]
        wrong = torch.stack([mean - end.alpha * MEANS, variance - end.alpha**2 * VARIANCES - end.sigma**2])
        errors.append(float(wrong.norm()))
    assert errors[0] < 0.1 * errors[1]


def test_it_is_of_strong_order_one_on_a_shared_path():
    """Runs of 20, 80 and 320 steps and of 2560 on one Brownian path a row, on two wide Gaussians: errors fall by 4. On
    draws of their own they do not."""
    sde = sk.EDMSDE(t_min=0.05, t_max=5.0)
    model = sk.models.GaussianMixture(sde, [0.5, 0.5], torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64), 0.5)
    x_T = sde.prior.sample((64, 2), sk.Noise(1), dtype=F64)

    def end(steps, noise):
        states = sk.trajectory(model, StochasticRungeKutta(), x_T, "log_snr", noise, steps=steps, denoise=False)
        return last(states).x

    exact = end(2560, sk.BrownianPath(3))
    errors = [float((end(n, sk.BrownianPath(3)) - exact).pow(2).mean().sqrt()) for n in (20, 80, 320)]
    assert all(math.log(a / b, 4) > 0.9 for a, b in itertools.pairwise(errors))
    own = [float((end(n, sk.KeyedNoise(3)) - exact).pow(2).mean().sqrt()) for n in (20, 80)]
    assert own[1] > 0.7 * own[0]


def test_the_path_in_the_stage_is_what_makes_the_order_two():
    """Mean and variance at t_min after 100, 200 and 400 steps: order 2; and 1 where the stage leaves its noise out."""
    sde = sk.VPSDE()
    found = {}
    for name in ("with", "without"):
        errors = []
        for n in (100, 200, 400):
            times = grids.log_snr(sde, n)
            errors.append(moment_error(sde, times, name == "with"))
        found[name] = slope((100, 200, 400), errors)
    assert found["with"] > 1.85
    assert 0.8 < found["without"] < 1.2


def moment_error(sde, times, with_path):
    """Of one Gaussian, N(0, 0.5): |variance - exact| at the last time, in the linear recursion y -> a y + b_1 z_1 + b_2
    z_2 that the method is there."""
    v = 0.5
    levels = sde.levels(times)
    variance = levels[0].alpha ** 2 * v + levels[0].sigma ** 2
    model = sk.models.GaussianMixture(sde, [1.0], torch.zeros(1, 1, dtype=F64), v)
    for t, s in itertools.pairwise(levels):
        x = torch.tensor([[1.0], [0.0], [0.0]], dtype=F64)
        z = [torch.tensor([[0.0], [1.0], [0.0]], dtype=F64), torch.tensor([[0.0], [0.0], [1.0]], dtype=F64)]
        kept, first, second = StochasticRungeKutta().step(model, State(x, t), s, Recorded(z)).x[:, 0].tolist()
        if not with_path:  # the noise of the first part, carried to the end as it is
            n, n_s = (level.sigma / level.alpha for level in (t, s))
            n_2 = n - 0.75 * (n - n_s)
            first = s.alpha * math.sqrt(n * n - n_2 * n_2)
        variance = kept**2 * variance + first**2 + second**2
    return abs(variance - levels[-1].alpha ** 2 * v - levels[-1].sigma ** 2)
