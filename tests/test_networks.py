"""Networks: the fused derivative against that of PyTorch, sizes, initialisation."""

import copy
import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from conftest import concrete, each
from rsgm.charts import Affine
from rsgm.description import build
from rsgm.losses import DenoisingScoreMatching, ImplicitScoreMatching
from rsgm.manifolds import Euclidean, Hyperbolic, Sphere
from rsgm.models import RSGM, ChartSGM, FlowMatching, GenerativeModel
from rsgm.networks import (
    MLP,
    Activation,
    BallCoordinates,
    FourierTime,
    LogSNR,
    LogTime,
    Network,
    PositionFeatures,
    RandomFourier,
    RawTime,
    ResidualMLP,
    Sin,
    TimeFeatures,
    UNet,
)
from rsgm.networks.activations import DualLinear
from rsgm.networks.unet import _Attention, _Up
from rsgm.processes import ScoreField, VarianceExploding, VariancePreserving
from rsgm.schedules import AutomaticVariance, GeometricVariance, LinearBeta

BATCH, IN, OUT, TANGENTS = 7, 3, 4, 2

IMAGE = [2, 4, 4]


def choices(cls: type, **size) -> list[partial]:
    """Every choice of each part, beside several of the others: one in seven of the products, which is prime to them."""
    products = itertools.product(concrete(Activation), concrete(TimeFeatures), concrete(PositionFeatures), (0, 2))
    return [
        partial(cls, **size, activation=activation, time=time, position=position, context_features=context)
        for activation, time, position, context in itertools.islice(products, 0, None, 7)
    ]


#: small networks of each kind
CASES = {
    "MLP": choices(MLP, hidden=[6, 5]),
    "ResidualMLP": choices(ResidualMLP, width=5, blocks=2),
    "UNet": [
        partial(
            UNet,
            shape=IMAGE,
            channels=4,
            multipliers=multipliers,
            blocks=1,
            attention=attention,
            groups=2,
            context_features=context,
        )
        for multipliers, attention, context in (([1, 2], [4], 0), ([1], [], 2), ([2, 1, 1], [2, 1], 0))
    ],
}
#: of input and output, where not any will do
SIZES = {"UNet": (32, 16)}


def name(make: partial) -> str:
    def short(part) -> str:
        return part.__name__ if isinstance(part, type) else str(part).partition("(")[0]

    return "-".join([make.func.__name__, *map(short, make.keywords.values())])


def networks() -> list:
    makes = [make for cls in concrete(Network) for make in CASES.get(cls.__name__, [partial(cls)])]
    return [pytest.param(make, id=name(make)) for make in makes]


every_network = pytest.mark.parametrize("make", networks())


def built(make: partial) -> tuple[Network, tuple[torch.Tensor, ...]]:
    """A network in float64 without zeros, and its inputs: t, x, tangents, context."""
    torch.manual_seed(0)
    sizes = SIZES.get(make.func.__name__, (IN, OUT))
    network = make(*sizes).double()
    for parameter in network.parameters():
        if parameter.dim() == 1 or not parameter.any():
            torch.nn.init.normal_(parameter)
    size = make.keywords.get("context_features", 0)
    t, x, tangents = torch.rand(BATCH), torch.randn(BATCH, sizes[0]), torch.randn(TANGENTS, BATCH, sizes[0])
    context = torch.randn(BATCH, size).double() if size else None
    return network, (t.double(), x.double(), tangents.double(), context)


@every_network
def test_value_and_derivative(make):
    network, (t, x, tangents, context) = built(make)
    value, derivative = network.jvp(t, x, tangents, context)
    assert value.shape == (BATCH, network.out_features)
    assert derivative.shape == (TANGENTS, BATCH, network.out_features)
    assert torch.allclose(value, network(t, x, context), rtol=1e-13, atol=1e-12)
    for u, found in zip(tangents, derivative, strict=True):
        _, expected = torch.func.jvp(lambda y: network(t, y, context), (x,), (u,))
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-11)
    step = 1e-6
    ahead, behind = (network(t, x + sign * step * tangents[0], context) for sign in (1, -1))
    assert torch.allclose(derivative[0], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)
    # each point has its own value
    alone, _ = network.jvp(t[:1], x[:1], tangents[:, :1], None if context is None else context[:1])
    assert torch.allclose(alone, value[:1], rtol=1e-13, atol=1e-12)


@every_network
def test_gradients_of_the_derivative(make):
    """What training differentiates: a function of value and derivatives, with respect to everything."""
    network, (t, x, tangents, context) = built(make)
    x.requires_grad_()
    torch.manual_seed(1)
    out = network.out_features
    weights = torch.randn(BATCH, out).double(), torch.randn(TANGENTS, BATCH, out).double()

    def gradients(jvp) -> list[torch.Tensor]:
        value, derivative = jvp(t, x, tangents, context)
        loss = (weights[0] * value.sin()).sum() + (weights[1] * derivative.square()).sum()
        return torch.autograd.grad(loss, [x, *network.parameters()])

    found, expected = gradients(network.jvp), gradients(partial(Network.jvp, network))
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-11)


@every_network
def test_each_point_has_its_own_context(make):
    """Another context gives another value, to the point that it belongs to and to no other."""
    network, (t, x, tangents, context) = built(make)
    if context is None:
        return
    other = context.clone()
    other[0] += 1
    for evaluate in (network, lambda *inputs: network.jvp(*inputs[:2], tangents, inputs[2])[0]):
        moved = (evaluate(t, x, other) - evaluate(t, x, context)).abs().max(1).values
        assert moved[0] > 1e-4
        assert moved[1:].max() < 1e-12


def test_every_part_is_met():
    """By the MLP, whose derivative is written out by hand."""
    met = [make.keywords for make in CASES["MLP"]]
    for part, base in {"activation": Activation, "time": TimeFeatures, "position": PositionFeatures}.items():
        assert {keywords[part] for keywords in met} == set(concrete(base))


def test_every_network_takes_a_context():
    """So that the test above meets each class."""
    conditional = {make.func for make in (p.values[0] for p in networks()) if make.keywords.get("context_features")}
    assert conditional == set(concrete(Network))


@pytest.mark.parametrize("cls", each(Activation))
def test_dual_activations(cls):
    """Against finite differences, in value, in gradient and in second derivatives."""
    stacked = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stacked.requires_grad_()
    activation = cls()
    out = activation.dual(stacked)
    assert torch.allclose(out[0], activation(stacked[0]), rtol=1e-14, atol=1e-15)
    step = 1e-6
    for u, found in zip(stacked[1:], out[1:], strict=True):
        ahead, behind = activation(stacked[0] + step * u), activation(stacked[0] - step * u)
        assert torch.allclose(found, (ahead - behind) / (2 * step), rtol=1e-8, atol=1e-9)
    assert torch.autograd.gradcheck(activation.dual, stacked)
    assert torch.autograd.gradgradcheck(activation.dual, stacked)
    weight, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in [(2, 5), (2,)])
    assert torch.autograd.gradgradcheck(DualLinear.apply, (stacked, weight, bias))


@every_network
def test_float32_and_no_grad(make):
    network, inputs = built(make)
    t, x, tangents, context = (None if z is None else z.float() for z in inputs)
    network = network.float()
    with torch.no_grad():
        value, derivative = network.jvp(t, x, tangents, context)
    assert value.dtype == derivative.dtype == torch.float32
    assert not value.requires_grad
    assert torch.allclose(value, network(t, x, context), rtol=1e-4, atol=1e-5)


# ---- the MLP


def test_size_of_the_published_network():
    """5 x 512 on S^2, with the time beside the coordinates."""
    assert sum(p.numel() for p in MLP(3, 3).parameters()) == 1_054_723


def test_sizes_of_the_other_published_networks():
    """The prototype on the plane; CIFAR-10's 35,746,307 with 128 sines and cosines of the time, which is one more."""
    assert sum(p.numel() for p in ResidualMLP(2, 2).parameters()) == 75_010
    cifar = UNet(3072, 3072, channels=128, multipliers=[1, 2, 2, 2], time=partial(FourierTime, 64), dropout=0.1)
    assert cifar.shape == [3, 32, 32]
    assert sum(p.numel() for p in cifar.parameters()) == 35_746_307 + 4 * 128
    mnist = UNet(784, 784, channels=32, multipliers=[1, 2, 2])
    assert mnist.shape == [1, 28, 28]
    assert mnist(torch.rand(1), torch.rand(1, 784)).shape == (1, 784)


def test_initial_weights_are_bounded():
    """Truncated normal of standard deviation 1/sqrt(fan-in), cut at two of them; zero biases."""
    torch.manual_seed(0)
    for layer in MLP(3, 3, hidden=[400, 300]).layers:
        scaled = layer.weight.detach() * layer.in_features**0.5
        assert scaled.abs().max() <= 2 + 1e-6
        # a normal law cut at two standard deviations keeps 0.88 of its own; 5 standard errors
        assert abs(float(scaled.std()) - 0.8796) < 5 * 0.8796 / (2 * scaled.numel()) ** 0.5
        assert abs(float(scaled.mean())) < 5 * 0.8796 / scaled.numel() ** 0.5
        assert (layer.bias == 0).all()


def test_context_of_the_wrong_size():
    t, x = torch.rand(2), torch.rand(2, 3)
    with pytest.raises(ValueError, match=r"context_features is 0, found a context of 5 features; set context_features"):
        MLP(3, 3, hidden=[4])(t, x, torch.rand(2, 5))
    with pytest.raises(ValueError, match=r"context_features is 5, found a context of 0 features"):
        MLP(3, 3, hidden=[4], context_features=5)(t, x)
    with pytest.raises(ValueError, match=r"context_features is 5, found a context of 4 features"):
        MLP(3, 3, hidden=[4], context_features=5).jvp(t, x, x[None], torch.rand(2, 4))
    for network in (ResidualMLP(3, 3, context_features=1), UNet(3, 3, shape=[3, 1, 1], multipliers=[1])):
        with pytest.raises(ValueError, match=r"context_features is \d, found a context of 2 features"):
            network(t, x, torch.rand(2, 2))


@pytest.mark.parametrize("hidden", [[], [4, 0], [-1]])
def test_hidden_widths_are_checked(hidden):
    with pytest.raises(ValueError, match="hidden needs at least one positive width, found"):
        MLP(3, 3, hidden=hidden)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"blocks": 0}], ids=str)
def test_residual_sizes_are_checked(arguments):
    with pytest.raises(ValueError, match="width and blocks must be at least 1, found"):
        ResidualMLP(3, 3, **arguments)


# ---- the U-net


def test_the_unet_starts_at_zero_and_then_sees_the_time():
    """In its first output and in every block; times a thousandth apart differ (an embedding of the bare t does not)."""
    torch.manual_seed(0)
    network = UNet(64, 64, channels=8, multipliers=[1, 2], blocks=1, groups=4)
    x, t = torch.randn(1, 64).expand(5, 64), torch.tensor([0.001, 0.002, 0.1, 0.5, 1.0])
    assert (network(t, x) == 0).all()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    out = network(t, x)
    distance = torch.cdist(out, out) + torch.eye(5)
    assert distance.min() > 1e-2 * out.norm(dim=1).mean()


@pytest.mark.parametrize(
    "sizes, arguments, message",
    [
        ((60, 60), {}, "60 numbers are no square image of one or three channels; give shape"),
        ((64, 64), {"shape": [1, 8, 4]}, r"shape \(1, 8, 4\) have 32 numbers; found points of 64"),
        ((64, 65), {}, "an output of 65, which must be a multiple of 64"),
        ((36, 36), {"multipliers": [1, 2, 2]}, "an image of 6 x 6 cannot be halved 2 times; use fewer multipliers"),
        ((32, 32), {"shape": [1, 8, 4], "multipliers": [1, 1, 1, 1]}, "cannot be halved 3 times"),
    ],
)
def test_shapes_of_the_unet_are_checked(sizes, arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(*sizes, **arguments)


def test_attention_by_pytorch_s():
    """Each pixel's mean of the values, weighted by the softmax over the keys of <query, key> / sqrt(channels)."""
    torch.manual_seed(0)
    attention, h = _Attention(8, 4), torch.randn(2, 8, 3, 5)
    torch.nn.init.normal_(attention.last.weight)
    parts = attention.query_key_value(attention.norm(h)).flatten(2).transpose(1, 2).chunk(3, -1)
    expected = F.scaled_dot_product_attention(*parts).transpose(1, 2).unflatten(2, (3, 5))
    assert torch.allclose(attention(h) - h, attention.last(expected), atol=1e-5)


def test_every_pixel_becomes_four():
    up, h = _Up(2), torch.randn(1, 2, 3, 5)
    torch.nn.init.dirac_(up.conv.weight)
    torch.nn.init.zeros_(up.conv.bias)
    assert torch.equal(up(h, torch.zeros(1)), F.interpolate(h, scale_factor=2, mode="nearest"))


def test_dropout_is_off_in_evaluation():
    torch.manual_seed(0)
    network = UNet(64, 64, channels=8, multipliers=[1], blocks=1, groups=4, dropout=0.5)
    torch.nn.init.normal_(network.last.weight)
    for part in [*network.down, *network.up]:
        torch.nn.init.normal_(part.conv2.weight)
    t, x = torch.rand(2), torch.randn(2, 64)
    assert not torch.equal(network(t, x), network(t, x))
    network.eval()
    assert torch.equal(network(t, x), network(t, x))


# ---- features


@pytest.mark.parametrize("cls", each(TimeFeatures))
def test_time_features(cls):
    features = cls()
    t = torch.tensor([0.0, 1e-6, 0.5, 1.0])
    out = features(t)
    assert out.shape == (4, features.out_features)
    assert torch.isfinite(out).all()
    # different times are different inputs
    assert len(torch.unique(out, dim=0)) == 4
    assert features.double()(t.double()).dtype == torch.float64


def test_time_features_by_formula():
    t = torch.tensor([0.25], dtype=torch.float64)
    assert RawTime()(t).tolist() == [[0.25]]
    assert LogTime(0.01)(t).tolist() == [[0.25, pytest.approx(torch.tensor(0.26).double().log().item())]]
    # s = 0.2 t + 2.4 t^2; the log-signal-to-noise ratio with the slowest and the fastest frequency
    s = torch.tensor(0.05 + 2.4 / 16, dtype=torch.float64)
    features = LogSNR(LinearBeta(0.2, 5.0), 2, min_frequency=0.5, max_frequency=4.0).double()(t)[0]
    angles = s.expm1().log() * torch.tensor([0.5, 4.0], dtype=torch.float64)
    assert torch.allclose(features, torch.cat([angles.sin(), angles.cos()]), atol=1e-6)
    # the slowest and the fastest frequency, in cycles per unit of t
    fourier = FourierTime(2, max_frequency=10.0).double()(t)[0]
    angles = 2 * torch.pi * 0.25 * torch.tensor([0.1, 10.0], dtype=torch.float64)
    assert torch.allclose(fourier, torch.cat([t, angles.sin(), angles.cos()]), atol=1e-6)


def test_features_know_the_schedule_of_their_process():
    """Unless they have one of their own; also in a copy."""
    t, own, other = torch.tensor([0.25]), LinearBeta(0.2, 5.0), LinearBeta(0.3, 9.0)
    for time in (partial(LogSNR), partial(LogSNR, schedule=own)):
        network = partial(ResidualMLP, width=4, time=time)
        model = RSGM(Euclidean(2), partial(VariancePreserving, schedule=other), network)
        (features,) = [part for part in copy.deepcopy(model).modules() if isinstance(part, LogSNR)]
        assert torch.equal(features(t), LogSNR(time.keywords.get("schedule", other))(t))
        assert not torch.equal(features(t), LogSNR()(t))


@pytest.mark.parametrize("cls", [RSGM, partial(ChartSGM, chart=partial(Affine, scale=2.0))])
def test_features_know_a_schedule_that_saw_the_points(cls):
    """As those of the model that is made of its checkpoint do."""
    generator = torch.Generator().manual_seed(0)
    position = partial(RandomFourier, damped=True)
    network = partial(ResidualMLP, width=4, position=position)
    model = cls(Euclidean(2), process=partial(VarianceExploding, schedule=AutomaticVariance()), network=network)
    points = 5 * torch.randn(50, 2, generator=generator)
    model.fit_points(points, points)
    copied = build(model.description, GenerativeModel)
    copied.load_state_dict(model.state_dict())
    parts = [part for part in model.modules() if isinstance(part, LogSNR | RandomFourier)]
    assert len(parts) == 2
    assert all(isinstance(part._schedule, GeometricVariance) for part in parts)
    score, again = (next(part for part in one.modules() if isinstance(part, ScoreField)) for one in (model, copied))
    t = torch.linspace(0.01, 1, 50)
    assert torch.equal(again(t, points), score(t, points))


VARIANTS = [partial(RandomFourier, inner=BallCoordinates), partial(RandomFourier, damped=True)]


@pytest.mark.parametrize("cls", [*each(PositionFeatures), *VARIANTS])
def test_position_features(cls):
    features = cls(3).double()
    features.bind(LinearBeta(0.1, 3.0))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    u = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.0, 1e-3, 0.01, 0.1, 1.0], dtype=torch.float64)
    assert features(x, t).shape == (5, features.out_features)
    for tangent, found in zip(u, features.push(x, u, t), strict=True):
        derivative = torch.func.jvp(lambda y: features(y, t), (x,), (tangent,))[1]
        assert torch.allclose(found, derivative, rtol=1e-12, atol=1e-12)


def test_damped_waves_are_what_the_heat_kernel_leaves():
    """Of a wave in flat space, averaged over the noise of a Brownian motion; 5 standard errors."""
    features, n = RandomFourier(2, 4, max_frequency=3.0, damped=True).double(), 200_000
    process = VarianceExploding(Euclidean(2), LinearBeta(0.1, 0.7), eps=0.01)
    features.bind(process.schedule)
    x0 = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    t = torch.full((n,), 0.8, dtype=torch.float64)
    noisy = process.perturb(x0.expand(n, 2), t, torch.Generator().manual_seed(0))
    free = RandomFourier(2, 4, max_frequency=3.0).double()
    waves, expected = free(noisy, t)[:, 2:], features(x0, t[:1])[0, 2:]
    assert ((waves.mean(0) - expected).abs() < 5 * waves.std(0) / n**0.5).all()
    assert (expected.abs() < 0.99 * free(x0, t[:1])[0, 2:].abs()).all()


def test_damped_waves_need_a_process():
    with pytest.raises(ValueError, match="damped features are for the network of a score model"):
        RandomFourier(3, damped=True)(torch.zeros(1, 3), torch.zeros(1))
    network = partial(ResidualMLP, width=8, position=partial(RandomFourier, count=4, damped=True))
    points = Sphere(2).random_uniform(5, 3)
    with pytest.raises(ValueError, match="here is no process"):
        FlowMatching(Sphere(2), network=network).loss(points)
    model = RSGM(Sphere(2), network=network)
    for one in (model, build(model.description, RSGM), copy.deepcopy(model)):
        assert torch.isfinite(one.loss(points)["loss"]).all()


def test_ball_coordinates():
    plane = Hyperbolic(2)
    x = plane.random_tangent(plane.origin(5, 3).double(), torch.Generator().manual_seed(0))
    x = plane.expmap(plane.origin(5, 3).double(), 9 * x)
    assert torch.allclose(BallCoordinates(3)(x, x[:, 0]), plane.to_ball(x), rtol=1e-14)
    assert torch.equal(
        RandomFourier(3, 4, inner=BallCoordinates).double()(x, x[:, 0])[:, :2], BallCoordinates(3)(x, x[:, 0])
    )


def test_random_frequencies():
    one, same, other = RandomFourier(3, 16), RandomFourier(3, 16), RandomFourier(3, 16, seed=1)
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    # fixed, and written into checkpoints
    assert not list(one.parameters())
    assert "weight" in one.state_dict()
    scale = torch.logspace(0, torch.tensor(64.0).log10().item(), 16)
    # |w| = scale times a chi variable with three degrees of freedom: below 6 but for one in 1e7
    ratio = one.weight.norm(dim=1) / scale
    assert ratio.max() < 6
    assert 1 < ratio.mean() < 2.2
    with pytest.raises(ValueError, match=r"0 < min_frequency <= max_frequency are needed, found 64, 2.0 and 1.0"):
        RandomFourier(3, min_frequency=2.0, max_frequency=1.0)


def test_a_network_needs_only_its_value():
    """`jvp` of the base class serves a network from outside the package."""

    class Quadratic(Network):
        def forward(self, t, x, context=None):
            return t[:, None] * x.square()

    t, x = torch.tensor([2.0, 3.0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    value, derivative = Quadratic().jvp(t, x, torch.ones(1, 2, 2))
    assert value.tolist() == [[2, 8], [27, 48]]
    assert derivative.tolist() == [[[4, 8], [18, 24]]]


class Plain(torch.nn.Module):
    """The computation of an `MLP` as somebody else would write it, on torch alone."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(in_features + 1, 6), torch.nn.Linear(6, out_features)])

    def forward(self, t, x, context=None):
        first, last = self.layers
        return last(first(torch.cat([x, t[:, None]], -1)).sin())


@pytest.mark.parametrize("loss", [ImplicitScoreMatching(), DenoisingScoreMatching()], ids=["implicit", "denoising"])
def test_a_module_of_torch_alone_trains_and_scores(loss):
    """As the `MLP` of the same weights does: in losses, gradients, log-densities and samples."""
    ours, plain = (RSGM(Sphere(2), network=n, loss=loss).double() for n in (partial(MLP, hidden=[6]), Plain))
    assert not isinstance(plain.score.field.network, Network)
    plain.load_state_dict(ours.state_dict())
    x = Sphere(2).random_uniform(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for model in (ours, plain):
        torch.manual_seed(0)
        value = model.loss(x)["loss"]
        gradients = torch.autograd.grad(value.sum(), list(model.parameters()))
        found.append([value, *gradients, model.log_prob(x), model.sample(3, seed=0)])
    for one, other in zip(*found, strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-7)


def test_dropout_is_that_of_the_value_in_every_direction():
    """A linear map with dropout: the derivative along x is the value, if both drop the same."""

    class Dropped(Network):
        def forward(self, t, x, context=None):
            return F.dropout(x, 0.5)

    torch.manual_seed(0)
    x = torch.rand(3, 40) + 1
    value, derivative = Dropped().jvp(torch.zeros(3), x, torch.stack([x, 2 * x]))
    assert 0 < (value == 0).sum() < value.numel()
    assert torch.equal(derivative, torch.stack([value, 2 * value]))


def test_default_activation_is_the_sine():
    """And no activation has weights."""
    assert isinstance(MLP(3, 3, hidden=[4]).activation, Sin)
    for cls in concrete(Activation):
        assert not cls().state_dict()
