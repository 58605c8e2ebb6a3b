"""The networks: shapes, precision, conditions, derivatives, and what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdekit.networks import MLP, LevelEmbedding, UNet

# torch.func.jvp still scripts its own tables.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def awake(net: nn.Module) -> nn.Module:
    """The network with its zeros replaced by noise, so that every branch contributes."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def case(net: nn.Module, batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A batch of noise and labels for the network."""
    c = net.config
    event = c["event_shape"] if isinstance(net, MLP) else [c["channels"], *(c["size"] or [8] * c["dims"])]
    return torch.randn(batch, *event, dtype=dtype), torch.rand(batch, dtype=dtype)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mlp": lambda **k: MLP((3, 2), width=16, depth=2, embedding=16, **k),
    "unet": lambda **k: UNet(2, size=(4, 5), width=8, multipliers=(1, 2), attention=(1,), **k),
    "unet1d": lambda **k: UNet(1, size=7, width=8, multipliers=(2, 1, 1), blocks=2, attention=(0, 2), dims=1, **k),
}
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


# Shapes


@pytest.mark.parametrize("event", [(), (1,), (2,), (64,), (1, 8, 8), (3, 2, 1, 2)])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_mlp_keeps_any_shape(event: tuple[int, ...], batch: int) -> None:
    net = awake(MLP(event, width=8, depth=1, embedding=8))
    x, label = case(net, batch)
    assert net(x, label).shape == x.shape


@pytest.mark.parametrize(
    "size", [(1,), (2,), (9,), (1, 1), (1, 6), (2, 2), (5, 7), (8, 8), (13, 16), (1, 1, 1), (3, 2, 5)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_unet_keeps_any_size(size: tuple[int, ...], channels: int) -> None:
    net = awake(UNet(channels, width=8, multipliers=(1, 2, 2), attention=(0, 2), dims=len(size)))
    for batch in (0, 1, 3):
        x = torch.randn(batch, channels, *size)
        out = net(x, torch.rand(batch))
        assert out.shape == x.shape
        assert out.isfinite().all()


@pytest.mark.parametrize("width", [4, 6, 10, 36])
def test_unet_takes_widths_that_no_power_of_two_divides(width: int) -> None:
    x = torch.randn(1, 1, 3, 3)
    assert awake(UNet(1, width=width, multipliers=(1, 3), attention=(0, 1)))(x, torch.rand(1)).shape == x.shape


def test_every_pixel_can_see_every_other() -> None:
    net = awake(UNet(1, size=8, width=8, multipliers=(1, 2), attention=(1,))).double()
    x, label = case(net, 1, torch.float64)
    jac = torch.func.jacrev(lambda v: net(v, label))(x).reshape(64, 64)
    assert (jac != 0).all()


# The level


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_thousand_times_have_a_thousand_embeddings(dtype: torch.dtype) -> None:
    embed = LevelEmbedding(64).to(dtype)
    out = embed(torch.arange(1000) / 1000)
    assert out.dtype == dtype
    assert out.shape == (1000, 64)
    assert torch.unique(out, dim=0).shape[0] == 1000


def test_autocast_does_not_round_the_label() -> None:
    embed = LevelEmbedding(64)
    with torch.autocast("cpu", torch.bfloat16):
        out = embed(torch.arange(1000) / 1000)
        assert embed.features(torch.rand(3)).dtype == torch.float32
    assert torch.unique(out, dim=0).shape[0] == 1000


def test_features_are_exact_in_the_precision_of_the_label() -> None:
    embed = LevelEmbedding(32).bfloat16()
    label = torch.linspace(-7, 5, 501, dtype=torch.float64)
    k = torch.arange(16, dtype=torch.float64)
    phase = label[:, None] * (2 * math.pi / 20) * 320.0 ** (k / 15)
    exact = torch.cat([phase.cos(), phase.sin()], 1)
    assert (embed.features(label) - exact).abs().max() < 1e-11
    assert (embed.features(label.float()) - exact).abs().max() < 3e-4  # 700 radians, in units of 2^-23


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-7.0, 5.0), (-1.75, 1.25)], ids=["t", "log sigma", "EDM"])
def test_features_resolve_each_range_of_labels(low: float, high: float) -> None:
    features = LevelEmbedding(64).features(torch.linspace(low, high, 401, dtype=torch.float64))
    gap = torch.cdist(features, features) + 1e9 * torch.eye(401)
    assert gap.min() > 0.2  # of a diameter of 8


def test_whole_number_labels_are_taken() -> None:
    embed = LevelEmbedding(16)
    assert torch.equal(embed(torch.arange(5)), embed(torch.arange(5.0)))


@each_network
def test_the_label_matters(make: Callable[..., nn.Module]) -> None:
    net = awake(make())
    x, _ = case(net, 2)
    assert (net(x, torch.full((2,), 0.5)) - net(x, torch.full((2,), 0.501))).abs().max() > 1e-5


# Classes


@each_network
def test_the_class_matters_and_none_is_an_index_of_its_own(make: Callable[..., nn.Module]) -> None:
    net = awake(make(classes=3))
    x, label = case(net, 1)
    x, label = x.expand(4, *x.shape[1:]), label.expand(4)
    by_class = net(x, label, torch.arange(4))
    assert torch.pdist(by_class.flatten(1)).min() > 1e-3
    torch.testing.assert_close(net(x, label), by_class[3:].expand_as(x))


@each_network
def test_a_dropped_condition_is_the_unconditional_row(make: Callable[..., nn.Module]) -> None:
    net = awake(make(classes=2))
    x, label = case(net, 3)
    mixed = net(x, label, torch.tensor([0, 2, 1]))
    torch.testing.assert_close(mixed[1], net(x, label)[1])
    assert (mixed[0] - net(x, label)[0]).abs().max() > 1e-3


# Laws


@each_network
def test_an_untrained_network_answers_zero(make: Callable[..., nn.Module]) -> None:
    net = make()
    assert (net(*case(net, 4)) == 0).all()


@each_network
@pytest.mark.parametrize("classes", [0, 3])
def test_the_config_rebuilds_the_network(make: Callable[..., nn.Module], classes: int) -> None:
    net = awake(make(classes=classes))
    twin = type(net)(**json.loads(json.dumps(net.config)))
    assert twin.config == net.config
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(*(xt := case(net, 3))), net(*xt))


def test_the_level_embedding_rebuilds_from_its_config() -> None:
    embed = LevelEmbedding(8, min_freq=0.5, max_freq=3.0)
    assert LevelEmbedding(**json.loads(json.dumps(embed.config))).config == embed.config


@each_network
def test_rows_do_not_see_each_other(make: Callable[..., nn.Module]) -> None:
    net = awake(make())
    x, label = case(net, 6)
    alone = torch.cat([net(x[i : i + 1], label[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(net(x, label), alone, atol=1e-5, rtol=1e-5)


@each_network
def test_gradients_reach_every_parameter(make: Callable[..., nn.Module]) -> None:
    net = awake(make(classes=2, **({"dropout": 0.1} if make is not NETWORKS["mlp"] else {})))
    x, label = case(net, 6)
    net(x, label, torch.tensor([0, 1, 2, 0, 1, 2])).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


@each_network
def test_second_derivatives_in_x(make: Callable[..., nn.Module]) -> None:
    net = awake(make()).double()
    x, label = case(net, 2, torch.float64)
    assert torch.autograd.gradgradcheck(lambda v: net(v, label), x.requires_grad_(), fast_mode=True)


@each_network
def test_forward_and_reverse_derivatives_agree(make: Callable[..., nn.Module]) -> None:
    net = awake(make()).double()
    x, label = case(net, 2, torch.float64)

    def f(v: Tensor) -> Tensor:
        out: Tensor = net(v, label)
        return out

    v, w = torch.randn_like(x), torch.randn(3, *x.shape, dtype=x.dtype)
    forward = torch.func.vmap(lambda u: (u * torch.func.jvp(f, (x,), (v,))[1]).sum())(w)
    reverse = torch.func.vmap(lambda u: (v * torch.func.vjp(f, x)[1](u)[0]).sum())(w)
    torch.testing.assert_close(forward, reverse)


@each_network
def test_a_jacobian_per_row_under_vmap(make: Callable[..., nn.Module]) -> None:
    net = awake(make()).double()
    x, label = case(net, 2, torch.float64)
    jac = torch.func.vmap(torch.func.jacrev(lambda v, c: net(v[None], c[None])[0]))(x, label)
    v = torch.randn_like(x)
    directional = torch.func.jvp(lambda u: net(u, label), (x,), (v,))[1]
    product = torch.stack([(j.flatten(x.ndim - 1) @ u.flatten()) for j, u in zip(jac, v, strict=True)])
    torch.testing.assert_close(product, directional)


@each_network
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(make: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    net = awake(make()).double()
    x, label = case(net, 3, torch.float64)
    exact = net(x, label)
    out = net.to(dtype)(x.to(dtype), label)
    assert out.dtype == dtype
    assert (out - exact).norm() <= (0.0 if dtype == torch.float64 else 0.1) * exact.norm()


def test_attention_does_not_depend_on_the_order_of_positions() -> None:
    from sdekit.networks.unet import Attention

    layer = awake(Attention(64)).double()
    x = torch.randn(2, 64, 3, 4, dtype=torch.float64)
    turned = layer(x.flip(2, 3))
    torch.testing.assert_close(turned.flip(2, 3), layer(x))
    assert layer.heads == 2


def test_dropout_acts_in_training_only() -> None:
    net = awake(UNet(1, width=8, multipliers=(1,), dropout=0.5))
    xt = torch.randn(2, 1, 4, 4), torch.rand(2)
    assert not torch.equal(net(*xt), net(*xt))
    net.eval()
    assert torch.equal(net(*xt), net(*xt))


@each_network
def test_no_dropout_no_draw(make: Callable[..., nn.Module]) -> None:
    net = make(classes=2).train()
    xt = case(net, 2)
    before = torch.get_rng_state()
    net(*xt)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("event", [(), (1, 4)])
def test_learns_the_noise_in_gaussian_data(event: tuple[int, ...]) -> None:
    """For x0 ~ N(0, 1) the optimum of E |F(alpha x0 + sigma eps, t) - eps|^2 is F = sigma x."""
    net = MLP(event, width=32, depth=2) if event == () else UNet(1, width=8, multipliers=(1,), dims=1)
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(300 if event == () else 150):
        t, x0, eps = torch.rand(128), torch.randn(128, *event), torch.randn(128, *event)
        sigma = t.reshape(-1, *[1] * len(event))
        loss = (net((1 - sigma**2).sqrt() * x0 + sigma * eps, t) - eps).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    x, t = torch.randn(512, *event), torch.rand(512)
    error = (net(x, t) - t.reshape(-1, *[1] * len(event)) * x).square().mean().sqrt()
    assert error < 0.12  # of an answer of RMS 0.58


# Refusals


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: UNet(1, attention=(5,)), "UNet: attention levels must be below 3, got 5"),
        (lambda: UNet(0), "UNet: channels must be a whole number of at least 1, got 0"),
        (lambda: UNet(1, width=3), "UNet: width must be a whole number of at least 4, got 3"),
        (lambda: UNet(1, width=8.0), "UNet: width must be a whole number of at least 4, got 8.0"),  # type: ignore[arg-type]
        (lambda: UNet(1, multipliers=()), "UNet: multipliers must name at least one level"),
        (lambda: UNet(1, multipliers=(1, 0)), "UNet: each of multipliers must be a whole number of at least 1, got 0"),
        (lambda: UNet(1, blocks=True), "UNet: blocks must be a whole number of at least 1, got True"),
        (lambda: UNet(1, dropout=1.0), r"UNet: dropout must be in \[0, 1\), got 1.0"),
        (lambda: UNet(1, dims=4), "UNet: dims must be 1, 2 or 3, got 4"),
        (lambda: UNet(1, size=(8, 8, 8)), r"UNet: size must have dims=2 entries, got \[8, 8, 8\]"),
        (lambda: UNet(1, classes=-1), "UNet: classes must be a whole number of at least 0, got -1"),
        (lambda: MLP((2, 0)), "MLP: each of event_shape must be a whole number of at least 1, got 0"),
        (lambda: MLP(2), "MLP: event_shape must be a list of whole numbers"),  # type: ignore[arg-type]
        (lambda: MLP((2,), depth=0), "MLP: depth must be a whole number of at least 1, got 0"),
        (lambda: MLP((2,), embedding=7), "MLP: embedding must be even, got 7"),
        (lambda: LevelEmbedding(7), "LevelEmbedding: dim must be even, got 7"),
        (lambda: LevelEmbedding(8, min_freq=2, max_freq=1), "LevelEmbedding: max_freq must exceed min_freq"),
    ],
)
def test_bad_sizes_are_named(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 3, 8, 8), 2, r"UNet: x must be of shape \(B, 1, H, W\), got \(2, 3, 8, 8\)"),
        ((2, 1, 8), 2, r"UNet: x must be of shape \(B, 1, H, W\), got \(2, 1, 8\)"),
        ((2, 1, 8, 8), 3, r"UNet: label must be of shape \(B,\) = \(2,\), got \(3,\)"),
    ],
)
def test_bad_batches_are_named(shape: tuple[int, ...], labels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(1, width=8)(torch.zeros(shape), torch.rand(labels))


def test_a_size_once_given_is_held_to() -> None:
    with pytest.raises(ValueError, match=r"UNet: x must be of shape \(B, 1, 8, 8\), got \(2, 1, 7, 8\)"):
        UNet(1, size=8, width=8)(torch.zeros(2, 1, 7, 8), torch.rand(2))


@each_network
def test_bad_classes_are_named(make: Callable[..., nn.Module]) -> None:
    x, label = case(make(), 2)
    with pytest.raises(ValueError, match="y must be None for a network with classes=0"):
        make()(x, label, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"y must be integers of shape \(2,\), got torch.float32"):
        make(classes=2)(x, label, torch.zeros(2))
    with pytest.raises(ValueError, match=r"y must be integers of shape \(2,\), got torch.int64 of \(3,\)"):
        make(classes=2)(x, label, torch.zeros(3, dtype=torch.long))
