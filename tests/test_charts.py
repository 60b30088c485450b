"""Charts: the contract, on every manifold that each of them takes."""

import math
from functools import partial

import pytest
import torch

from conftest import concrete, variants
from rsgm.charts import Affine, Chart, ExponentialWrap, Logit, Standardise, Stereographic, TanhExponential
from rsgm.manifolds import Euclidean, Manifold, SpecialOrthogonal, Sphere, Torus
from rsgm.models import ChartSGM
from rsgm.networks import MLP


def pairs() -> list:
    """Every chart of every manifold that has it."""
    found = []
    for cls in concrete(Chart):
        for make in variants(Manifold):
            try:
                chart = cls(make.values[0]())
            except (ValueError, NotImplementedError):
                continue
            found.append(pytest.param(chart, id=f"{cls.__name__}-{make.id}"))
    space = Euclidean(3)
    fitted = Standardise(space, chart=Logit)
    fitted.fit(torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    others = [Affine(space, shift=0.5, scale=0.35), Logit(space, alpha=0.2), fitted]
    return found + [pytest.param(chart, id=f"{type(chart).__name__}-other") for chart in others]


every_chart = pytest.mark.parametrize("chart", pairs())


def coordinates(chart: Chart, length: float, n: int = 20) -> torch.Tensor:
    """Of such a length, in every direction."""
    y = torch.randn(n, chart.manifold.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return length * y / y.norm(dim=-1, keepdim=True)


def lengths(chart: Chart) -> list[float]:
    return [length for length in (0.0, 1e-6, 1e-3, 0.0099, 0.0101, 0.5, 1.5, 3.0, 6.0) if length < 0.99 * chart.radius]


def rounding(chart: Chart, dtype: torch.dtype) -> float:
    """Of a chart that moves the origin, which costs the small coordinates their relative accuracy."""
    zero = torch.zeros(chart.manifold.dim, dtype=torch.float64)
    moved = chart.forward(zero) - chart.manifold.origin(*chart.manifold.shape)
    slope = math.exp(float(chart.log_det(zero)) / chart.manifold.dim)
    return 10 * torch.finfo(dtype).eps * float(moved.abs().max()) / slope


def test_every_chart_is_tested():
    assert {type(pair.values[0]) for pair in pairs()} == set(concrete(Chart))


@every_chart
def test_inverse(chart):
    for length in lengths(chart):
        y = coordinates(chart, length)
        x = chart.forward(y)
        assert x.shape == (20, *chart.manifold.shape)
        assert chart.manifold.check_point_on_manifold(x, atol=1e-12, rtol=1e-12)
        # at 6 a rounding error of tanh is one of 1e-11 in y
        assert torch.allclose(chart.inverse(x), y, rtol=1e-12, atol=1e-9 if length > 4 else 1e-12)


@every_chart
def test_float32(chart):
    """Relative accuracy in the coordinates; in the log-determinant an absolute one."""
    for length in lengths(chart):
        y = coordinates(chart, length)
        single = chart.log_det(y.float())
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), chart.log_det(y.float().double()), rtol=1e-6, atol=2e-6)
        if length < 2:
            x = chart.forward(y.float())
            assert x.dtype == torch.float32
            atol = 1e-5 * length + rounding(chart, torch.float32)
            assert torch.allclose(chart.inverse(x).double(), y, rtol=0, atol=atol)


@every_chart
def test_log_determinant_against_the_jacobian(chart):
    manifold = chart.manifold
    for length in lengths(chart):
        y = coordinates(chart, length, 5)
        x = chart.forward(y)
        jacobian = torch.func.vmap(torch.func.jacfwd(chart.forward))(y)  # (B, *shape, dim)
        frame = manifold.frame(x)
        matrix = torch.stack(
            [torch.stack([manifold.inner(x, e, column) for e in frame], -1) for column in jacobian.movedim(-1, 0)],
            -1,
        )
        assert torch.allclose(chart.log_det(y), torch.linalg.slogdet(matrix)[1], rtol=1e-9, atol=1e-9)


@every_chart
def test_gradients_are_finite(chart):
    """At zero, next to it, and away from it; for both directions; where float32 rounds to zero too."""
    for length, dtype in [(0.0, torch.float32), (1e-20, torch.float32), (1e-20, torch.float64), (1.0, torch.float32)]:
        y = coordinates(chart, length).to(dtype).requires_grad_()
        loss = chart.forward(y).square().sum() + chart.log_det(y).sum()
        assert torch.isfinite(torch.autograd.grad(loss, y)[0]).all()
        x = chart.forward(y).detach().requires_grad_()
        assert torch.isfinite(torch.autograd.grad(chart.inverse(x).sum(), x)[0]).all()
        assert torch.isfinite(torch.func.vmap(torch.func.jacfwd(chart.forward))(y.detach())).all()


@every_chart
def test_zero_is_the_origin(chart):
    """Or what the class says that it is."""
    manifold = chart.manifold
    zero, centre = torch.zeros(manifold.dim), manifold.origin(*manifold.shape)
    if isinstance(chart, Logit):
        centre = centre + 0.5
    if isinstance(chart, Affine):
        centre = centre + chart.shift
    if isinstance(chart, Standardise):
        centre = chart.chart(chart.mean)
    assert torch.allclose(chart.forward(zero), centre, rtol=1e-6)
    assert torch.allclose(chart.inverse(centre), zero, atol=1e-6)


# ---- each


def test_stereographic_against_reference(reference):
    chart = Stereographic(Sphere(2))
    for case in reference("densities")["stereographic_gaussian"]["records"]:
        y, x = (torch.tensor(case[name], dtype=torch.float64) for name in ("y", "x"))
        assert torch.allclose(chart.forward(y), x, rtol=1e-14)
        assert torch.allclose(chart.inverse(x), y, rtol=1e-13)
        assert float(chart.log_det(y)) == pytest.approx(case["logdet_inverse_stereo"], rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stereographic_far_out(dtype):
    """Relative accuracy up to a rounding error from the antipode, which itself stays finite."""
    chart = Stereographic(Sphere(2))
    for length in (1e2, 1e4, 1e6):
        y = coordinates(chart, length).to(dtype)
        assert torch.allclose(chart.inverse(chart.forward(y)), y, rtol=10 * torch.finfo(dtype).eps)
        assert torch.allclose(
            chart.log_det(y), torch.tensor(2 * math.log(2) - 4 * math.log(length), dtype=dtype), atol=2e-4
        )
    pole = torch.tensor([-1.0, 0.0, 0.0], dtype=dtype)
    y = chart.inverse(pole)
    assert y.norm() > 1e6
    assert torch.allclose(chart.forward(y), pole, atol=1e-6)


def test_tanh_exponential_at_the_edge():
    """Finite where the coordinates are not."""
    chart = TanhExponential(Sphere(2))
    for dtype in (torch.float32, torch.float64):
        pole = torch.tensor([-1.0, 0.0, 0.0], dtype=dtype)
        y = chart.inverse(pole)
        assert 8 < y.norm() < 9
        assert torch.isfinite(chart.log_det(y))
        assert torch.isfinite(chart.log_det(3 * y))


def test_exponential_wrap_is_not_injective():
    """Beyond the injectivity radius the shortest of the coordinates is found."""
    chart = ExponentialWrap(Sphere(2))
    y = torch.tensor([4.0, 0.0], dtype=torch.float64)
    assert chart.radius == math.pi
    assert torch.allclose(chart.inverse(chart.forward(y)), y - torch.tensor([2 * math.pi, 0.0], dtype=torch.float64))


def test_flat_charts_by_formula():
    x = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    assert Affine(Euclidean(3), 0.5, 0.35).inverse(x).tolist() == [[-0.5 / 0.35, 0.0, 0.5 / 0.35]]
    logit = Logit(Euclidean(3), alpha=0.05)
    assert torch.allclose(logit.inverse(x), torch.logit(0.05 + 0.9 * x), rtol=1e-13)
    # next to the faces of the cube the density of the coordinates is lower by 0.9 / (0.05 * 0.95)
    assert torch.allclose(
        logit.log_det(logit.inverse(x)), torch.tensor([0.05**2 * 0.95**2 / 0.9**3 / 4]).double().log()
    )


@pytest.mark.parametrize("inner", [Affine, Logit], ids=lambda cls: cls.__name__)
def test_standardised_coordinates(inner):
    """Mean zero and variance one over what it was fitted to, also of a coordinate that hardly varies."""
    scale = torch.tensor([1.0, 0.1, 0.0], dtype=torch.float64)
    x = 0.2 + 0.5 * scale * torch.rand(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chart = Standardise(Euclidean(3), chart=inner)
    assert torch.allclose(chart.inverse(x), inner(Euclidean(3)).inverse(x))
    chart.fit(x)
    y = chart.inverse(x)
    assert torch.allclose(y.mean(0), torch.zeros(3).double(), atol=2e-4)
    assert torch.allclose(y.std(0), torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-5)
    again = Standardise(Euclidean(3), chart=inner)
    again.load_state_dict(chart.state_dict())
    assert torch.equal(again.inverse(x), y)


def test_standardised_coordinates_of_standardised_coordinates():
    """The inner chart is fitted first, so that nothing is left for the outer one; both keep their own least scale."""
    x = 3 + torch.tensor([5.0, 0.02]) * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    chart = Standardise(Euclidean(2), chart=partial(Standardise, min_std=0.1))
    chart.fit(x)
    torch.testing.assert_close(chart.chart.mean, x.mean(0))
    torch.testing.assert_close(chart.chart.std, torch.tensor([x[:, 0].std(), 0.1]))
    torch.testing.assert_close(chart.mean, torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(chart.std, torch.tensor([1.0, x[:, 1].std() / 0.1]))


def test_flat_charts_check_their_arguments():
    for cls in (Affine, Logit):
        with pytest.raises(ValueError, match=r"Sphere.* is not a vector space.*choose Euclidean"):
            cls(Sphere(2))
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="Affine: scale must be positive and finite, found"):
            Affine(Euclidean(2), scale=scale)
    for alpha in (0.0, 0.5, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"Logit: alpha must be between 0 and 0\.5, found"):
            Logit(Euclidean(2), alpha=alpha)


def test_charts_name_what_they_need():
    with pytest.raises(ValueError, match=r"Stereographic: Euclidean.* is not a sphere; choose ExponentialWrap"):
        Stereographic(Euclidean(2))
    with pytest.raises(ValueError, match=r"TanhExponential: Euclidean.* infinite injectivity radius"):
        TanhExponential(Euclidean(2))


# ---- points without coordinates


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("make", [Stereographic, ExponentialWrap, TanhExponential])
def test_the_missing_point_is_an_error_and_its_neighbours_are_not(make, dim, dtype):
    """The antipode of the origin, as an angle of 180 degrees in either precision makes it."""
    torch.manual_seed(0)
    manifold = Sphere(dim)
    model = ChartSGM(manifold, chart=make, network=partial(MLP, hidden=[8]))

    def turned(angle):
        angle = torch.tensor(angle, dtype=dtype)
        return torch.cat([torch.stack([angle.cos(), angle.sin()]), angle.new_zeros(dim - 1)])

    x = torch.stack([turned(a) for a in (0.3, math.pi, 2.0, -math.pi)])
    assert model.chart.misses(x).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match=rf"2 of 4 points have no coordinates in the chart {make.__name__}.*rows 1, 3"):
        model.log_prob(x)
    with pytest.raises(ValueError, match="2 of 4 points have no coordinates"):
        model.fit_points(x, x[:1])
    near = turned(math.pi - 0.1)[None]
    value = model.log_prob(near)
    y = model.chart.inverse(near.double())
    expected = model.flat.log_prob(y) - model.chart.log_det(y)
    assert torch.isfinite(value).all()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_charts_that_miss_nothing():
    """Half a turn is a rotation and an angle like others."""
    for manifold in (Torus(2), SpecialOrthogonal(), Sphere(1)):
        origin = manifold.origin(1, *manifold.shape, dtype=torch.float64)
        u = math.pi * manifold.frame(origin)[0]
        assert not ExponentialWrap(manifold).misses(manifold.expmap(origin, u)).any()


def test_samples_at_the_edge_of_the_margin_have_coordinates():
    """In single precision a picture's number is rounded to the edge; what lies beyond has no coordinates."""
    chart = Logit(Euclidean(1))
    edge = chart(torch.tensor([[60.0], [-60.0]]))
    assert torch.isfinite(chart.inverse(edge)).all()
    assert torch.isfinite(chart.inverse(edge.double())).all()
    assert chart.inverse(torch.tensor([[1.2]])).isnan().all()
