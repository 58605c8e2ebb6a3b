"""The museum of slips: what has gone wrong elsewhere, put into sdekit on purpose, and the law that notices.

An exhibit is a slip, one wrong line in place of a right one, and a test of the suite with its subject. The law holds in
the healthy package, and fails with the slip in it. Sources are other projects' code and issues, by file and line or by
number, at the heads of 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import test_brownian_path
import test_classics
import test_grids
import test_independence
import test_likelihood
import test_losses
import test_models
import test_noise
import test_ode
import test_sdes
import test_solvers
import test_spot_the_bug as spot
import test_tables
import test_training
import test_variational
import torch
from injection import Slip
from test_certification import holds

import sdekit as sk
from sdekit import sampling, simulation
from sdekit.certification import checks
from sdekit.density.flow import FlowWithDensity, carried
from sdekit.density.trace import Exact
from sdekit.errors import InvalidArgument, ScheduleError, SDEKitError
from sdekit.likelihood import log_likelihood
from sdekit.likelihood.prior import check_prior
from sdekit.models.base import GaussianPrediction, evaluating
from sdekit.models.parametrisations import _index
from sdekit.noise import BrownianPath, KeyedNoise
from sdekit.ode.adaptive import _Run as Integration
from sdekit.sdes import gaussian, tables
from sdekit.training import Settings, checkpoint, load_model
from sdekit.training.averaging import Average
from sdekit.training.batches import Batches
from sdekit.training.trainer import _Run as TrainingRun

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16

FAILS = (AssertionError, SDEKitError, pytest.fail.Exception)
"""How a law fails: by an assertion, by an error of the package's own, or because an error it awaits is absent."""


class Exhibit(NamedTuple):
    """What went wrong, where, the slip that repeats it here, and the law that notices."""

    id: str
    story: str
    source: str
    slip: Slip
    law: Callable[..., Any]
    """A test bound to its subject; it may ask for fixtures."""
    fails: type[BaseException] | tuple[type[BaseException], ...] = FAILS
    """The crash itself, where that is the story."""


SECTIONS = {
    "A": "Forward processes and schedules",
    "B": "Losses",
    "C": "Samplers",
    "D": "Likelihood",
    "E": "Randomness",
    "F": "Averages, checkpoints, resuming",
    "P": "Seen in other projects' code",
}

ROWS = [
    *(f"{letter}{i}" for letter, n in zip("ABCDEFP", (13, 10, 13, 8, 5, 11, 11), strict=True) for i in range(1, n + 1))
]
"""Every pitfall of the catalogue."""

EXHIBITS = [
    # Forward processes and schedules
    Exhibit(
        "A1",
        "The product of the levels before is read as that of the level itself: the first level has no noise.",
        "score_sde_pytorch, sde_lib.py:158",
        Slip(
            sk.DiscreteVPSDE.__post_init__,
            "torch.cat([zero, times]), torch.cat([zero, spent])",
            "torch.cat([zero, times]), torch.cat([zero, 0 * spent[:1], spent[:-1]])",
        ),
        partial(test_tables.test_the_kernel_between_two_levels_is_ddpms_step),
    ),
    Exhibit(
        "A2",
        "Times are truncated to indices: of 2000 levels one is visited twice, and the last never.",
        "score_sde_pytorch, sampling.py:401 and sde_lib.py:158",
        Slip(
            tables.linspace,
            "torch.round(torch.arange(steps, dtype=F64) * (n - 1) / (steps - 1)).long()",
            "(torch.linspace(1e-3, 1.0, steps, dtype=F64) * (n - 1)).long()",
        ),
        partial(test_tables.test_a_spacing_visits_as_many_levels_as_it_is_asked_for_each_once, "linspace", 4000),
    ),
    Exhibit(
        "A3",
        "Training tells a discrete network labels between its own: 500.1 where sampling says 500.",
        "score_sde_pytorch, issues 2 and 11; dpm-solver, issue 60",
        Slip(
            sk.TableSDE.time_of,
            "times[(u * len(times)).floor().long().clamp(0, len(times) - 1)]",
            "1.0 + u * (len(times) - 1)",
        ),
        partial(test_tables.test_training_and_sampling_tell_the_same_label_to_the_bit, 10, F32),
    ),
    Exhibit(
        "A4",
        "Labels pass through the network's bfloat16: 937 becomes 936 and 999 becomes 1000.",
        "diffusers, issue 9405; utensils/mold, issue 786",
        Slip(sk.models.Parametrised.forward, "wide = torch.promote_types(dtype, torch.float32)", "wide = dtype"),
        partial(test_tables.test_a_bf16_network_is_told_every_label_apart),
    ),
    Exhibit(
        "A5",
        "sigma is the root of 1 - exp(-B) in float32: off by 0.6 % at t = 1e-5, where it cancels.",
        "score_sde_pytorch, sde_lib.py:144",
        Slip(
            sk.VPSDE.sigma,
            "torch.sqrt(-torch.expm1(-self._integral(t)))",
            "torch.sqrt(1 - torch.exp(-self._integral(t.float()))).to(t)",
        ),
        partial(test_sdes.test_alpha_sigma_and_log_snr_to_the_last_bits, sk.VPSDE(), F32),
    ),
    Exhibit(
        "A6",
        "alpha_bar is a product of float32 numbers: 1 - alpha_bar is off by 1.7e-4 at the first level.",
        "scripts that build tables by torch.cumprod, improved-diffusion's ports among them",
        Slip(
            sk.DiscreteVPSDE.__post_init__,
            "accumulated(-torch.log1p(-betas))",
            "-(1 - betas).float().cumprod(0).double().log()",
        ),
        partial(test_tables.test_alpha_bar_to_the_last_bits, "linear", 999),
    ),
    Exhibit(
        "A7",
        "sigma is found from alpha in bfloat16: ten of a thousand levels get no noise at all.",
        "diffusers, scheduling_ddpm.py add_noise, issue 9004",
        Slip(
            sk.GaussianSDE.perturb,
            "level.sigma, eps)",
            "(1 - level.alpha.to(x0.dtype) ** 2).sqrt(), eps)",
        ),
        partial(test_sdes.test_half_precision_data_get_their_noise_at_every_level, sk.VPSDE(), BF16),
    ),
    Exhibit(
        "A8",
        "sub-VP's deviation is taken for its variance: the root of 1 - exp(-B).",
        "Song et al. 2021, eq. 29; a slip of ports",
        Slip(
            sk.SubVPSDE.sigma,
            "-torch.expm1(-self._integral(t))",
            "torch.sqrt(-torch.expm1(-self._integral(t)))",
        ),
        partial(test_sdes.test_drift_and_diffusion_are_the_closed_forms_in_double_precision, sk.SubVPSDE()),
    ),
    Exhibit(
        "A9",
        "VE's kernel from s to t adds the whole variance at t, with what is already there at s.",
        "Song et al. 2021, eq. 30: sigma(0) is sigma_min, not 0",
        Slip(gaussian.kernel, "t.sigma * sqrt(-expm1(t.log_snr - s.log_snr))", "t.sigma"),
        partial(test_sdes.test_kernels_compose, sk.VESDE()),
    ),
    Exhibit(
        "A10",
        "The forward step adds beta z, where the variance is beta.",
        "diffusion_models notebook 02, cell 16",
        Slip(sk.GaussianSDE.forward_step, "return scale(ratio, x), std", "return scale(ratio, x), std * std"),
        partial(spot.law_of_unit_variance, spot.forward),
    ),
    Exhibit(
        "A11",
        "The process ends while the data still show, and sampling starts from N(0, 1) without a word.",
        "diffusion_models notebook 02, cell 20; k-diffusion, issue 64; diffusers, issue 3475",
        Slip(sk.GaussianSDE.prior_at, "snr > ENDING_SNR", "False"),
        partial(test_classics.test_a_process_that_ends_while_the_data_show_says_so, spot.SHORT),
    ),
    Exhibit(
        "A12",
        "VE's prior is centred whatever the data are: 0.6 nats at a mean of 1.",
        "score_sde_pytorch, sde_lib.py:238, issue 64",
        Slip(sk.GaussianSDE._prior_of, "NormalPrior(alpha * mean,", "NormalPrior(0.0 * mean,"),
        partial(test_sdes.test_translating_the_data_translates_ves_prior, sk.VESDE(sigma_max=2.0)),
    ),
    Exhibit(
        "A13",
        "DDPM's scaled betas in ten steps reach 2: roots of negative numbers, tables of NaN, and no error.",
        "tables scaled by 1000 / N, as in improved-diffusion",
        Slip(tables.check_betas, "bad = ~((b > 0) & (b < 1))", "bad = b.isnan()"),
        partial(
            test_tables.test_a_table_that_is_none_is_named,
            lambda: sk.DiscreteVPSDE([0.1, 1.0]),
            ScheduleError,
            "betas must lie in (0, 1), got 1 at index 1",
        ),
        (*FAILS, ValueError),
    ),
    # Losses
    Exhibit(
        "B1",
        "The target of score matching has the wrong sign.",
        "diffusion_models notebook 01, issues 7 and 11",
        Slip(sk.losses.DenoisingScoreMatching.terms, ".eps - eps)", ".eps + eps)"),
        partial(test_losses.test_the_exact_score_is_stationary_and_its_opposite_is_not, sk.VPSDE(), "simple"),
    ),
    Exhibit(
        "B2",
        "The weight is missing: at sigma = 0.01 even the exact score costs 10,000, and nobody can tell if it learns.",
        "diffusion_models notebook 02, cell 8",
        Slip(sk.losses.weights.simple, "return 1.0", "return 1.0 / level.sigma**2"),
        partial(test_losses.test_at_the_exact_score_the_loss_is_its_floor, sk.VESDE()),
    ),
    Exhibit(
        "B3",
        "The sum over coordinates has a factor 1/2 that the mean has not.",
        "score_sde_pytorch, losses.py:71",
        Slip(sk.losses.base.Objective.per_sample, "else terms.sum(1)", "else 0.5 * terms.sum(1)"),
        partial(test_losses.test_sum_is_mean_times_the_dimension),
    ),
    Exhibit(
        "B4",
        "The likelihood weight is drawn at uniform times: at small t it makes the loss all noise.",
        "score_flow, which therefore draws times by importance",
        Slip(
            sk.losses.importance,
            "sde.time_at(most + (least - most) * _parts(n, noise, device))",
            "sde.t_min + (sde.t_max - sde.t_min) * _parts(n, noise, device)",
        ),
        partial(test_losses.test_importance_times_make_the_likelihood_loss_less_noisy, sk.VPSDE()),
    ),
    Exhibit(
        "B5",
        "A weight of shape (B, 1) meets losses of shape (B,): a silent table of B x B.",
        "the commonest broadcast of the field",
        Slip(sk.losses.base.Objective.per_sample, "value.reshape(-1).to(per_row.dtype)", "value.to(per_row.dtype)"),
        partial(test_losses.test_the_rows_are_their_own_and_the_loss_is_their_mean, sk.VPSDE()),
    ),
    Exhibit(
        "B6",
        "The mean is not detached in the hybrid objective: the bound's gradient reaches it.",
        "ports of Improved DDPM's loss; diffusion_models notebook 02, cell 24",
        Slip(sk.losses.Hybrid.bound, "self.decoder_ends, True,", "self.decoder_ends, False,"),
        partial(test_variational.test_the_hybrid_objective_is_improved_ddpms),
    ),
    Exhibit(
        "B7",
        "A learned variance is interpolated linearly between its bounds, not in the logarithm.",
        "diffusers, issues 2090 and 3006",
        Slip(
            sk.models.LearnedRange.log_var,
            "return lincomb(half, value, 0.5 * (upper + lower), torch.ones_like(value))",
            "return (1 + lincomb(0.5 * (expm1(upper) - expm1(lower)), value,"
            " 0.5 * (expm1(upper) + expm1(lower)), torch.ones_like(value))).log()",
        ),
        partial(test_models.test_a_learned_range_is_beta_and_the_posteriors_at_its_ends, 1),
    ),
    Exhibit(
        "B8",
        "The logarithm of a variance is taken for the variance: its root is NaN.",
        "diffusers, issues 14569 and 14571 (fixed_large_log), open",
        Slip(sk.solvers.Ancestral.step, "torch.exp(0.5 * p.spread(s))", "torch.sqrt(p.spread(s))"),
        partial(test_classics.test_every_variance_is_finite_and_positive_at_every_step, "learned"),
    ),
    Exhibit(
        "B9",
        "The decoder of 8-bit images is used for data that have no levels.",
        "diffusion_models notebook 02, cell 46",
        Slip(sk.losses.VariationalBound.check, "check_levels(owner, ", "(lambda *given: None)(owner, "),
        partial(
            test_variational.test_what_has_no_bound_is_named,
            lambda: sk.losses.VariationalBound(decoder_bin=0.5)(
                test_variational.exact(spot.TABLE), torch.full((2, 1), 0.3), sk.Noise(0)
            ),
            InvalidArgument,
            "x0 must hold levels 0.5 apart from -1 to 1",
        ),
    ),
    # Samplers
    Exhibit(
        "C1",
        "Langevin dynamics draws rand for randn: on N(0, 1) it converges to mean 10 and variance 0.08.",
        "diffusion_models notebook 02, cell 12",
        Slip(
            simulation.langevin,
            'noise.normal(x.shape, stream=("langevin", k), dtype=x.dtype, device=x.device)',
            "noise.uniform(x.shape)",
        ),
        partial(spot.law_of_langevin, spot.langevin),
    ),
    Exhibit(
        "C2",
        "The last step draws noise: the mask that should stop it is made and never applied.",
        "diffusion_models notebook 02, cells 28 and 41",
        Slip(
            sk.solvers.Ancestral.step,
            "return State(p.x0, s)",
            "return State(lincomb(1.0, p.x0, t.sigma, noise(state.x, t, s)), s)",
        ),
        partial(spot.law_of_the_last_step, spot.ancestral),
    ),
    Exhibit(
        "C3",
        "DDIM ends at the first level's alpha_bar, not at the data: a last trace of noise stays.",
        "diffusers, issues 465, 2585, 6068 and 10003 (set_alpha_to_one)",
        Slip(sk.solvers.DDIM.step, "return State(p.x0, s)", "return State(p.mix(t.alpha, t.sigma), s)"),
        partial(test_solvers.test_the_last_step_is_tweedie_s_and_draws_no_noise, sk.VPSDE(), sk.solvers.DDIM()),
    ),
    Exhibit(
        "C4",
        "The grid's steps are T / N on a span of T - eps: the last one is not like the others.",
        "score_sde_pytorch, sampling.py:182 and 401",
        Slip(
            sk.grids.uniform,
            "(sde.t_max * (n - i) + sde.t_min * i) / max(n, 1)",
            "sde.t_max * (n - i) / max(n, 1)",
        ),
        partial(test_grids.test_uniform_is_even_in_t, sk.VPSDE(), 7),
    ),
    Exhibit(
        "C5",
        "The corrector's step is made of norms averaged over the batch: a sample depends on its mates.",
        "score_sde_pytorch, issue 41",
        Slip(sk.solvers.Langevin.step, "STEPS[self.step_size]", 'STEPS["batch"]'),
        partial(test_solvers.test_langevin_rows_do_not_depend_on_their_mates_and_song_s_rule_does),
    ),
    Exhibit(
        "C6",
        "A pair of process and sampler that cannot work crashes deep inside the first step.",
        "score_sde_pytorch, sde_lib.py:99 and sampling.py:186; issue 8",
        Slip(sk.solvers.GaussianSolver.check, "if not isinstance(model.sde, GaussianSDE):", "if model.sde is None:"),
        partial(test_solvers.test_a_process_without_a_kernel_is_served_by_the_solvers_that_need_none),
        (AssertionError, AttributeError),
    ),
    Exhibit(
        "C7",
        "Independent normals stand in for one Brownian path: a solver of order 2 has order 0.9.",
        "k-diffusion, dpmpp_sde with a noise sampler of one's own",
        Slip(BrownianPath.__call__, 'if stream != "path":', "if True:"),
        partial(test_brownian_path.test_increments_add_up, *test_brownian_path.TRIPLES[0]),
    ),
    Exhibit(
        "C8",
        "A second-order update meets sigma = 0: infinity less infinity, NaN.",
        "diffusers, issues 9007, 10748, 14213 and 14411",
        Slip(
            sk.solvers.LinearMultistep.step,
            'if s.clean and (not past or self.coordinate in ("log_snr", "t")):',
            "if False:",
        ),
        partial(test_solvers.test_any_event_shape_and_dtype, sk.solvers.DPMSolver(), F32, (2,)),
    ),
    Exhibit(
        "C9",
        "x0 is edited and the old eps kept: the two no longer add up to x.",
        "denoising-diffusion-pytorch, issues 81 and 84",
        Slip(
            GaussianPrediction.with_x0,
            "GaussianPrediction(self.x, self.level, x0, 1.0, 0.0, self.spread)",
            "GaussianPrediction(lincomb(self.level.alpha, x0, self.level.sigma, self.eps),"
            " self.level, x0, 1.0, 0.0, self.spread)",
        ),
        partial(test_models.test_the_views_are_one_belief, sk.models.Epsilon(), sk.VPSDE()),
    ),
    Exhibit(
        "C11",
        "An adaptive method takes one decision for the batch: a row's steps are refused for the sake of its mates.",
        "k-diffusion, sampling.py:463; torchdiffeq",
        Slip(Integration.step, "taken = ratio <= 1.0", "taken = (ratio <= 1.0).all().expand(len(ratio))"),
        partial(test_ode.test_a_row_of_dopri5_does_not_depend_on_its_mates, True),
    ),
    Exhibit(
        "C12",
        "The clock is in float32: a long run loses its last digits step by step.",
        "most code bases; EDM's generate.py:35 keeps it in float64",
        Slip(sk.GaussianSDE.levels, 'device="cpu", dtype=torch.float64)', 'device="cpu", dtype=torch.float32)'),
        partial(holds, checks.n_steps, sk.solvers.Ancestral(), sk.VPSDE()),
    ),
    Exhibit(
        "C13",
        "Sampling leaves the model in evaluation mode: dropout is off for the rest of training.",
        "previews in training loops of several code bases",
        Slip(evaluating, "module.training = True", "module.training = False"),
        partial(test_independence.test_a_call_leaves_everything_as_it_found_it, "sample", (None, None)),
    ),
    # Likelihood
    Exhibit(
        "D1",
        "Bits per dimension add 7, which is right for 8-bit data in [-1, 1] and for nothing else.",
        "score_sde_pytorch, likelihood.py:109, issue 51",
        Slip(sk.Likelihood.bits_per_dim, "- math.log2(bin_width)", "+ 7.0"),
        partial(test_likelihood.test_bits_per_dim_counts_the_bits_of_uniform_data),
    ),
    Exhibit(
        "D2",
        "Integers are taken for a density's argument: bits per dimension below zero.",
        "score_sde, issue 24",
        Slip(
            log_likelihood,
            'x = batch(owner, "x", x)',
            'x = batch(owner, "x", torch.as_tensor(x, dtype=torch.float64))',
        ),
        partial(
            test_likelihood.test_bad_input_is_refused_before_the_first_network_call,
            lambda model: log_likelihood(model, test_likelihood.X.long()),
            "x must be of a floating-point dtype, got torch.int64",
        ),
    ),
    Exhibit(
        "D3",
        "The divergence has the wrong sign.",
        "the two directions of time of diffusion and flow matching",
        Slip(carried, "volume - end[:, d:]", "volume + end[:, d:]"),
        partial(test_likelihood.test_any_event_shape, ()),
    ),
    Exhibit(
        "D4",
        "The trace estimates of several probes are added up and never divided by their number.",
        "bayesflow, issue 772",
        Slip(carried, "volume - end[:, d:]", "volume - end[:, d:].sum(1, keepdim=True)"),
        partial(test_likelihood.test_rademacher_is_exact_on_a_diagonal_jacobian),
    ),
    Exhibit(
        "D5",
        "One mean norm over state, density and batch: easy rows and coordinates hide a hard one.",
        "score_sde_pytorch, likelihood.py:99",
        Slip(
            FlowWithDensity.weigh,
            "return together.abs() + apart.sqrt()",
            "return error.square().mean().sqrt().expand(len(x))",
        ),
        partial(test_likelihood.test_rows_do_not_depend_on_their_mates),
    ),
    Exhibit(
        "D6",
        "The likelihood ends in N(0, 1) although the process knows the data's moments: 0.03 nats, 0.6 on VE.",
        "every code base that hard-codes the prior",
        Slip(
            check_prior,
            "prior = sde.prior if",
            "prior = sde._standard_prior(sde._end) if",
        ),
        partial(test_likelihood.test_a_prior_with_the_data_s_moments_is_exact_for_gaussian_data),
    ),
    Exhibit(
        "D7",
        "The flow is integrated in float32: 7e-3 nats.",
        "score_sde_pytorch, likelihood.py",
        Slip(log_likelihood, "is None else x).to(dtype)", "is None else x).to(torch.float32)"),
        partial(test_likelihood.test_mixtures_in_d_dimensions_within_the_error_of_the_name, sk.EDMSDE(), 2),
    ),
    Exhibit(
        "D8",
        "Dropout is active while a density is computed.",
        "likelihoods called within training loops",
        Slip(log_likelihood, "set_grad_enabled(gradient is not None), evaluating(model)", "no_grad()"),
        partial(test_independence.test_a_call_leaves_everything_as_it_found_it, "likelihood", (None, None)),
    ),
    # Randomness
    Exhibit(
        "E1",
        "A seed gives another image in another batch.",
        "diffusers, issues 2659, 6222 and 11016; k-diffusion, issue 25; AUTOMATIC1111, issues 376 and 5210",
        Slip(
            KeyedNoise._words,
            "torch.arange(rows, device=device) if self.ids is None else self.ids.to(device)",
            "torch.arange(rows, device=device)",
        ),
        partial(test_noise.test_a_row_is_the_same_alone_in_a_batch_and_in_any_order),
    ),
    Exhibit(
        "E2",
        "The numbers of a seed change with the dtype that is asked for.",
        "torch.randn, whose draws are not those of another dtype or size",
        Slip(
            KeyedNoise._normal, "inverse_normal_cdf(u).to(dtype)", "inverse_normal_cdf(u.to(dtype).double()).to(dtype)"
        ),
        partial(test_noise.test_another_dtype_is_the_same_number_rounded, F32),
    ),
    Exhibit(
        "E3",
        "Dropout draws from the generator that previews use: the weights depend on how often one looks.",
        "denoising-diffusion-pytorch; pytorch, issue 80119; lightning, issue 6988",
        Slip(
            TrainingRun._seeded,
            "return seeded(fold((self.settings.seed, step, 1)), self.device)",
            "return torch.enable_grad()",
        ),
        partial(test_training.test_weights_do_not_depend_on_what_is_saved_or_shown),
    ),
    Exhibit(
        "E4",
        "A sampler seeds the global generator.",
        "samplers with a seed argument, in several code bases",
        Slip(
            sampling._run, "counted = Counted(model, len(x))", "torch.manual_seed(0); counted = Counted(model, len(x))"
        ),
        partial(test_independence.test_a_call_leaves_everything_as_it_found_it, "sample", (None, None)),
    ),
    Exhibit(
        "E5",
        "The order of the data comes from Python's own generator, which no checkpoint holds.",
        "data loaders that shuffle by random or numpy.random",
        Slip(
            Batches._permutation,
            'Noise((self.seed, epoch, 0)).uniform(len(self.data), stream="order")',
            'torch.tensor([__import__("random").random() for _ in self.data])',
        ),
        partial(test_training.test_a_resumed_run_ends_with_the_same_bits, stops=[9]),
    ),
    # Averages, checkpoints, resuming
    Exhibit(
        "F1",
        "A checkpoint is written while the averaged weights are swapped in: the raw ones are lost.",
        "schnetpack, issue 785; Open-Sora-Plan, issue 186; waifu-diffusion, issue 31",
        Slip(TrainingRun.save, '"model": self.model.state_dict()', '"model": self.average.model.state_dict()'),
        partial(test_training.test_ctrl_c_keeps_the_last_finished_step),
    ),
    Exhibit(
        "F2",
        "The warm-up of the average overwrites its decay, which stays near one half.",
        "diffusers, issue 1864",
        Slip(Settings.average_decay, "min(self.ema, (1 + step) / (10 + step))", "min(0.5, (1 + step) / (10 + step))"),
        partial(test_training.test_average_is_its_closed_form_sum, stops=[7]),
    ),
    Exhibit(
        "F3",
        "The average shares the tensors that training overwrites.",
        "score_sde_pytorch, ema.py:91; diffusion_models notebook 02, cell 51",
        Slip(
            Average.__init__,
            "copy.deepcopy(model).requires_grad_(False).eval()",
            "copy.deepcopy(model, {id(p): p for p in model.parameters()}).eval()",
        ),
        partial(test_training.test_average_is_its_closed_form_sum, stops=[7]),
    ),
    Exhibit(
        "F4",
        "An average is kept up all along, and the last weights are sampled.",
        "diffusion_models notebook 02, cell 53",
        Slip(load_model, 'groups["ema"]', 'groups["model"]'),
        partial(spot.law_of_the_average, spot.loaded),
    ),
    Exhibit(
        "F5",
        "A run's noise comes from one generator, whose state no checkpoint holds: a resumed run is another run.",
        "score_sde_pytorch, utils.py:22; EDM, training_loop.py:52; denoising-diffusion-pytorch",
        Slip(
            TrainingRun._objective,
            "noise = Noise((self.settings.seed, step))",
            'noise = self.__dict__.setdefault("noise", Noise(self.settings.seed))',
        ),
        partial(test_training.test_a_resumed_run_ends_with_the_same_bits, stops=[9]),
    ),
    Exhibit(
        "F7",
        "A checkpoint after step k says k - 1, and the run goes on by doing step k again.",
        "improved-diffusion, train_util.py:168",
        Slip(TrainingRun.save, '{"step": self.trained.steps_done,', '{"step": self.trained.steps_done - 1,'),
        partial(test_training.test_ctrl_c_keeps_the_last_finished_step),
    ),
    Exhibit(
        "F8",
        "There is nothing to resume: a warning at most, and the run starts anew.",
        "score_sde_pytorch, utils.py:8; diffusers, train_unconditional.py:572",
        Slip(checkpoint.load, "raise CheckpointNotFound(", "warnings.simplefilter('default'), print("),
        partial(test_training.test_nothing_to_load_and_formats_to_come),
    ),
    Exhibit(
        "F9",
        "The old checkpoint is removed before the new one stands: after a crash there is none.",
        "diffusers, train_unconditional.py:643",
        Slip(
            checkpoint.save,
            "directory.mkdir(parents=True, exist_ok=True)",
            "directory.mkdir(parents=True, exist_ok=True); clear(directory)",
        ),
        partial(test_training.test_a_crash_at_any_operation_leaves_a_whole_checkpoint, again=False),
    ),
    Exhibit(
        "F10",
        "The rate's schedule starts anew with every process, after the optimiser's state is back.",
        "yolov5, issue 292; pytorch, issue 119168; NeMo Automodel, issue 3882",
        Slip(
            TrainingRun.step,
            "rate = self.settings.rate(step)",
            'rate = self.settings.rate(self.__dict__.setdefault("first", iter(range(1, 1000))).__next__())',
        ),
        partial(test_training.test_a_resumed_run_ends_with_the_same_bits, stops=[9]),
    ),
    Exhibit(
        "F11",
        "Gradients that are no numbers are let through, and the last healthy checkpoint is rotated away.",
        "EDM, training_loop.py:139; pocket-tts, issue 262",
        Slip(TrainingRun.fetch, "if not math.isfinite(value) or not math.isfinite(norm):", "if False:"),
        partial(test_training.test_what_is_not_finite_stops_the_run_before_the_weights_change, value=0.0, named=False),
    ),
    # Seen in other projects' code
    Exhibit(
        "P1",
        "One factor of an exponential multistep integrator is another: it converges, but with order 1 and not 2.",
        "azula, sample.py:944 (REABSampler), here in DPM-Solver++",
        Slip(sk.solvers.DPMSolver.predicted, "r = 0.5 * (s.log_snr", "r = 0.3 * (s.log_snr"),
        partial(holds, checks.flow_order, sk.solvers.DPMSolver(2), sk.VPSDE()),
    ),
    Exhibit(
        "P2",
        "sub-VP's 1 - exp(-B) in float32: its deviation is 5 % short at t = 1e-5, the default end of the likelihood.",
        "score_sde_pytorch, sde_lib.py:195",
        Slip(
            sk.SubVPSDE.sigma,
            "-torch.expm1(-self._integral(t))",
            "(1 - torch.exp(-self._integral(t.float()))).to(t)",
        ),
        partial(test_sdes.test_alpha_sigma_and_log_snr_to_the_last_bits, sk.SubVPSDE(), F32),
    ),
    Exhibit(
        "P3",
        "DDIM steps down by N / n whatever the grid is: wrong wherever it is not evenly spaced.",
        "diffusers, scheduling_ddim.py:445; issues 9261, 11347, 12633 and 14357, open",
        Slip(
            sk.solvers.DDIM.step,
            "p, t, s = predict(model, state, s)",
            "p, t, s = predict(model, state, s); "
            "s = s if s.clean else t.sde.level(max(t.t - len(t.sde.times) // 20, 1.0), state.x)",
        ),
        partial(test_classics.test_strided_ddim_is_its_papers, "linspace", 0.0),
    ),
    Exhibit(
        "P5",
        "The corrector asks the process for alphas, which sub-VP does not have: every such run crashes.",
        "score_sde_pytorch, sampling.py:269 and 306, issue 8",
        Slip(sk.solvers.langevin.level_step, "* p.level.sigma * p.level.sigma", "* p.level.sde.alphas"),
        partial(
            test_solvers.test_a_time_per_row_gives_each_row_its_own_step, sk.SubVPSDE(), sk.solvers.PredictorCorrector()
        ),
        AttributeError,
    ),
    Exhibit(
        "P7",
        "The exact divergence is that of (B, D): of an image it counts the first axis alone.",
        "flow_matching, ode_solver.py:161",
        Slip(Exact.divergence, "d = v.shape[1]", "d = x.shape[1]"),
        partial(test_likelihood.test_any_event_shape, (1, 2, 2)),
    ),
    Exhibit(
        "P8",
        "Labels are scaled to 1000 levels whatever the table's length is.",
        "dpm-solver, dpm_solver_pytorch.py:278",
        Slip(_index, "level.t - 1.0", "(level.t - 1.0) * 1000 / len(level.sde.times)"),
        partial(test_tables.test_training_and_sampling_tell_the_same_label_to_the_bit, 10, F32),
    ),
    Exhibit(
        "P9",
        "The noisy tail of a cosine schedule is cut off, and the map from log-SNR to time shifts with it.",
        "dpm-solver, numerical_clip_alpha",
        Slip(
            sk.grids.log_snr,
            "torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))",
            "torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)).clamp(min=-10.2)",
        ),
        partial(test_grids.test_log_snr_is_even_in_log_snr, sk.CosineSDE(t_max=0.999), 7),
    ),
    Exhibit(
        "P10",
        "One step size serves the batch: a sample's density and its evaluations depend on its mates.",
        "score_sde_pytorch, k-diffusion and flow_matching, by SciPy and torchdiffeq",
        Slip(Integration.step, ".clamp(0.2, 10.0)", ".clamp(0.2, 10.0).min().expand(len(h)).clone()"),
        partial(test_likelihood.test_rows_do_not_depend_on_their_mates),
    ),
    Exhibit(
        "P11",
        "Euler-Maruyama's steps add up to 1 and not to 1 - eps: a small error, 0.4 % of the deviation in 20 steps.",
        "score_sde_pytorch, sampling.py:182",
        Slip(
            sk.solvers.EulerMaruyama.step,
            "dt = t.t - s.t",
            "dt = (t.t - s.t) * t.sde.t_max / (t.sde.t_max - t.sde.t_min)",
        ),
        partial(holds, checks.n_steps, sk.solvers.EulerMaruyama(), sk.VPSDE()),
    ),
]

OUT_OF_SCOPE = {
    "B10": "LossAware times lose their history on resume: sdekit has no times that learn from past losses.",
    "C10": "Claims of order or likelihood with clipping on: sdekit clips no prediction.",
    "F6": "accelerate's loader skips batches wrongly in mid-epoch: sdekit's batches are a function of the step; "
    "that resuming in mid-epoch is exact is the law of F5.",
    "P4": "Inpainting builds its mean from the noisy x: sdekit has no inpainting.",
    "P6": "A table on the host is indexed by times on a CUDA device: without one it cannot be repeated; the law is "
    "`test_gpu.test_a_process_on_the_gpu_follows_the_cpu`.",
}
"""Rows of the catalogue that nothing in sdekit could repeat, and why."""
