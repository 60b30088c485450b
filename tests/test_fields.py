"""Tangent fields and their divergences, against the Jacobian."""

import math
from functools import partial

import pytest
import torch

from conftest import concrete, each, variants, within
from rsgm.divergence import Divergence, Exact, GaussianHutchinson, Hutchinson, with_divergence
from rsgm.fields import DivergenceFreeField, Field, FrameField, NetworkField, TangentField
from rsgm.manifolds import Adapted, Euclidean, Hyperbolic, Manifold, Sphere
from rsgm.networks import MLP, RandomFourier, SiLU

NETWORK = partial(MLP, hidden=[8, 8], activation=SiLU, position=partial(RandomFourier, count=4, max_frequency=3.0))
BATCH = 6


def built(cls: type, manifold: Manifold, context: int = 0) -> tuple[Field, tuple]:
    """A field with large weights in float64, and points: t, x, context."""
    torch.manual_seed(0)
    field = cls(manifold, partial(NETWORK, context_features=context)).double()
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter)
    t = torch.rand(BATCH).double()
    x = manifold.projx(torch.randn(BATCH, *manifold.shape).double())
    return field, (t, x, torch.randn(BATCH, context).double() if context else None)


def pairs() -> list:
    """Every network field on every manifold that it accepts."""
    found = []
    for cls in concrete(NetworkField):
        accepted = []
        for make in variants(Manifold):
            try:
                built(cls, make.values[0]())
            except ValueError as error:
                assert str(error).startswith(cls.__name__)  # noqa: PT017
                continue
            accepted.append(pytest.param(cls, make.values[0](), id=f"{cls.__name__}-{make.id}"))
        assert accepted, f"{cls.__name__} accepts no manifold"
        found += accepted
    return found


PAIRS = pairs()
every_field = pytest.mark.parametrize("cls, manifold", PAIRS)
#: one field on each manifold: what looks at the directions alone
every_manifold = pytest.mark.parametrize(
    "cls, manifold", [pair for pair in PAIRS if pair.values[0] is PAIRS[-1].values[0]]
)


def close(one: torch.Tensor, other: torch.Tensor, rounding: float = 1e-10) -> bool:
    return bool((one - other).abs().max() <= rounding * (1 + other.abs().max()))


# ---- the contract of fields


@every_field
def test_divergence_is_the_trace_of_the_jacobian(cls, manifold):
    field, (t, x, c) = built(cls, manifold, context=2)
    frame = manifold.frame(x)
    value, divergence = field.with_divergence(t, x, frame, c)
    assert close(value, field(t, x, c), 1e-13)
    # the trace in the frame; where the metric is the ambient one also the ambient trace, for the field is extended off
    # the manifold without change along the normal
    isometric = close(frame.flatten(2).norm(dim=-1), torch.ones(()).double())
    missing = manifold.connection_trace(x, value)

    def contracted(jacobians):
        pushed = torch.einsum("bij,abj->abi", jacobians, frame.flatten(2))
        return manifold.inner(x, frame, pushed.reshape(frame.shape)).sum(0) + missing

    jacobians = []
    for i in range(BATCH):
        jacobian = torch.func.jacfwd(lambda y, i=i: field(t[i : i + 1], y[None], c[i : i + 1])[0])(x[i])
        jacobians.append(jacobian.reshape(x[i].numel(), -1))
    assert close(divergence, contracted(torch.stack(jacobians)))
    assert not isometric or close(divergence, torch.stack([jacobian.trace() for jacobian in jacobians]))
    # what a field does that does not know better
    plain_value, plain_divergence = Field.with_divergence(field, t, x, frame, c)
    assert close(value, plain_value, 1e-13)
    assert close(divergence, plain_divergence)
    # by reverse mode
    reverse = [
        torch.func.jacrev(lambda y, i=i: field(t, y, c)[i])(x).movedim(len(manifold.shape), 0)[i] for i in range(BATCH)
    ]
    assert close(divergence, contracted(torch.stack(reverse).reshape(BATCH, x[0].numel(), -1)))


@every_field
def test_values_are_tangent(cls, manifold):
    field, (t, x, _) = built(cls, manifold)
    value = field(t, x)
    assert value.shape == x.shape
    assert value.abs().max() > 0.1
    assert manifold.check_vector_on_tangent(x, value, atol=1e-13 * float(value.abs().max()), rtol=0)


@every_field
def test_points_are_projected(cls, manifold):
    """The field is that of the nearest point: what a solver leaves off the manifold does not matter."""
    field, (t, x, _) = built(cls, manifold)
    off = 1.7 * x if math.isfinite(manifold.log_volume) else x
    assert close(field(t, off), field(t, manifold.projx(off)), 1e-13)
    found = field.with_divergence(t, off, manifold.frame(x))
    # second differences with a step of 0.01 stand for derivatives where there is no formula: they divide what the two
    # projections differ by in the last digit by 1e-4
    rounding = 1e-10 if type(manifold) is Adapted else 1e-12
    for one, other in zip(found, field.with_divergence(t, x, manifold.frame(x)), strict=True):
        assert close(one, other, rounding)


@every_field
def test_gradients_of_the_loss_terms(cls, manifold):
    """With respect to every parameter, the same through the fused and through the general divergence."""
    field, (t, x, _) = built(cls, manifold)
    gradients = []
    for method in (field.with_divergence, partial(Field.with_divergence, field)):
        value, divergence = method(t, x, manifold.frame(x))
        loss = (0.5 * manifold.squared_norm(x, value) + divergence).sum()
        gradients.append(torch.autograd.grad(loss, list(field.parameters())))
    for fused, general in zip(*gradients, strict=True):
        assert general.abs().max() > 0
        assert close(fused, general)


def test_manifolds_without_killing_fields_are_refused():
    class Plain(Sphere):
        def __init__(self):
            super().__init__(2)
            self.killing_field_count = 0

    with pytest.raises(ValueError, match=r"DivergenceFreeField: .*no known divergence-free fields; use TangentField"):
        DivergenceFreeField(Plain(), NETWORK)
    with pytest.raises(NotImplementedError, match="use TangentField"):
        Manifold.combine_killing_fields(Sphere(2), torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("make", [make for make in variants(Manifold) if make.values[0]().killing_field_count])
def test_killing_fields_are_divergence_free_and_span_every_tangent_space(make):
    manifold = make()
    x = manifold.projx(torch.randn(5, *manifold.shape, generator=torch.Generator().manual_seed(0)).double())
    frame = manifold.frame(x)
    fields = []
    for k in range(manifold.killing_field_count):
        f = torch.zeros(5, manifold.killing_field_count).double()
        f[:, k] = 1
        value, divergence = with_divergence(lambda y, f=f: manifold.combine_killing_fields(y, f), manifold, x, frame)
        assert divergence.abs().max() < 1e-13
        assert manifold.check_vector_on_tangent(x, value, atol=1e-13, rtol=0)
        fields.append(value)
    components = torch.stack([manifold.inner(x, e, torch.stack(fields)) for e in frame])
    assert torch.linalg.matrix_rank(components.permute(2, 0, 1)).tolist() == [manifold.dim] * 5


def test_constant_rotations_have_no_divergence():
    """The basis is divergence-free: with a network that does not look at the point, nothing is left."""
    sphere = Sphere(2)
    field, (t, x, _) = built(DivergenceFreeField, sphere)
    torch.nn.init.zeros_(field.network.layers[-1].weight)
    value, divergence = field.with_divergence(t, x, sphere.frame(x))
    axis = field.network.layers[-1].bias.detach()
    assert close(value, torch.linalg.cross(axis.expand_as(x), x), 1e-14)
    assert divergence.abs().max() < 1e-13


def test_constant_network_on_the_sphere():
    """v = P b has div v = -d <b, x>."""
    for dim in (1, 2, 3):
        sphere = Sphere(dim)
        field, (t, x, _) = built(TangentField, sphere)
        torch.nn.init.zeros_(field.network.layers[-1].weight)
        b = field.network.layers[-1].bias.detach()
        _, divergence = field.with_divergence(t, x, sphere.frame(x))
        assert close(divergence, -dim * x @ b, 1e-13)


# ---- divergence estimators

every_estimator = pytest.mark.parametrize("make", variants(Divergence))


@every_estimator
@every_manifold
def test_estimators_are_unbiased(make, cls, manifold):
    """The mean over 5000 probes at one point; 5 standard errors, false alarm 6e-7."""
    n = 5000
    field, (t, x, _) = built(cls, manifold)
    _, expected = field.with_divergence(t[:1], x[:1], manifold.frame(x[:1]))
    t, x = t[:1].expand(n), x[:1].expand(n, *manifold.shape)
    directions = make().directions(manifold, x, torch.Generator().manual_seed(0))
    assert directions.shape[1:] == x.shape
    with torch.no_grad():
        _, divergence = field.with_divergence(t, x, directions)
    assert divergence.shape == (n,)
    assert within(divergence, expected.detach())


def test_exact_divergence_has_no_variance():
    """Whatever the frame: turn it, and nothing changes."""
    sphere = Sphere(2)
    field, (t, x, _) = built(TangentField, sphere)
    frame = Exact().directions(sphere, x)
    turned = torch.stack([0.6 * frame[0] + 0.8 * frame[1], -0.8 * frame[0] + 0.6 * frame[1]])
    assert close(field.with_divergence(t, x, frame)[1], field.with_divergence(t, x, turned)[1], 1e-12)


@pytest.mark.parametrize("manifold", [Sphere(1), Euclidean(1)], ids=str)
def test_rademacher_probes_are_exact_in_dimension_one(manifold):
    field, (t, x, _) = built(TangentField, manifold)
    exact = field.with_divergence(t, x, manifold.frame(x))[1]
    for seed in range(4):
        probe = Hutchinson().directions(manifold, x, torch.Generator().manual_seed(seed))
        assert close(field.with_divergence(t, x, probe)[1], exact, 1e-13)
    # normal probes are not
    probe = GaussianHutchinson().directions(manifold, x, torch.Generator().manual_seed(0))
    assert not close(field.with_divergence(t, x, probe)[1], exact, 1e-3)


def test_rademacher_probes_have_the_least_variance():
    """sum over a != b of (J_ab + J_ba)^2 / 2, against 2 |sym J|^2 of normal probes; 5 standard errors."""
    space, n = Euclidean(3), 50_000
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    symmetric = (matrix + matrix.T) / 2
    x = torch.zeros(n, 3, dtype=torch.float64)
    off_diagonal = symmetric - symmetric.diag().diag()
    for estimator, variance in (
        (Hutchinson(), 2 * off_diagonal.square().sum()),
        (GaussianHutchinson(), 2 * symmetric.square().sum()),
    ):
        directions = estimator.directions(space, x, torch.Generator().manual_seed(0))
        _, divergence = with_divergence(lambda y: y @ matrix.T, space, x, directions)
        assert within((divergence - matrix.trace()).square(), variance)


@every_field
def test_probes_have_the_variance_of_signs_in_the_frame(cls, manifold):
    """That of s' J s, sum over a < b of (J_ab + J_ba)^2, on every manifold; 5 standard errors, false alarm 6e-7."""
    n = 4000
    field, (t, x, _) = built(cls, manifold)
    t, x, frame = t[:1], x[:1], manifold.frame(x[:1])
    # J_ab + J_ba, from the divergence along pairs of axes
    along = [
        [
            float(field.with_divergence(t, x, a + b)[1] - field.with_divergence(t, x, a - b)[1]) / 2
            for b in frame[:, None]
        ]
        for a in frame[:, None]
    ]
    mixed = torch.tensor(along, dtype=torch.float64)
    variance = float(mixed.triu(1).square().sum())
    exact = float(field.with_divergence(t, x, frame)[1])
    many = x.expand(n, *manifold.shape)
    directions = Hutchinson().directions(manifold, many, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = field.with_divergence(t.expand(n), many, directions)[1]
    square = (found - exact).square()
    # to the rounding of the exact divergence where signs have no variance
    assert abs(square.mean() - variance) <= 5 * square.std() / n**0.5 + 1e-9 * (1 + exact**2)


@pytest.mark.parametrize("cls", each(Divergence))
def test_probes_are_functions_of_the_generator(cls):
    sphere = Sphere(2)
    x = sphere.random_uniform(50, 3, generator=torch.Generator().manual_seed(0))
    one, same = (cls().directions(sphere, x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, same)
    assert one.dtype == x.dtype
    for direction in one:
        assert sphere.check_vector_on_tangent(x, direction, atol=1e-6, rtol=0)


def test_general_divergence_of_a_general_field():
    """A field that is not a module: gradient of a spherical harmonic, -6 times the harmonic itself."""
    sphere = Sphere(2)
    x = sphere.random_uniform(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def gradient(y: torch.Tensor) -> torch.Tensor:
        y = sphere.projx(y)
        return sphere.proju(y, torch.stack([y[:, 1], y[:, 0], torch.zeros_like(y[:, 0])], -1))

    value, laplacian = with_divergence(gradient, sphere, x, sphere.frame(x))
    assert close(value, gradient(x), 1e-15)
    assert close(laplacian, -6 * x[:, 0] * x[:, 1], 1e-13)


def test_a_field_in_a_frame_is_as_long_as_the_output():
    """Also far from the origin, where the tangent part of the same output is longer by the cosh of the distance."""
    space, distance = Hyperbolic(3), 8.0
    x = space.expmap(space.origin(5, 4).double(), distance * space.frame(space.origin(5, 4).double())[0])
    f = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = FrameField(space, NETWORK).combine(x, f)
    assert torch.allclose(space.squared_norm(x, v), f.square().sum(-1))
    ambient = torch.cat([torch.zeros(5, 1).double(), f], -1)
    longer = space.squared_norm(x, TangentField(space, NETWORK).combine(x, ambient))
    assert torch.allclose(longer, f[:, 1:].square().sum(-1) + (math.cosh(distance) * f[:, 0]).square())


def test_no_frame_on_spheres():
    with pytest.raises(ValueError, match="no known frame that is smooth everywhere; use TangentField"):
        FrameField(Sphere(2), NETWORK)
