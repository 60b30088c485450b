"""The probability flow: exact log-densities where they are known, normalisation, failures."""

import math
from collections import defaultdict
from functools import partial

import pytest
import torch

from conftest import quadrature, variants
from helpers import HeatKernelScore, ReverseMode, points, random_score, seeded, worst
from rsgm.divergence import Divergence, Exact
from rsgm.fields import Field
from rsgm.likelihood import ODESolver, SolveError, integrate
from rsgm.manifolds import Euclidean, SpecialOrthogonal, Sphere, Torus
from rsgm.processes import Brownian, ScoreField, VarianceExploding
from rsgm.schedules import ConstantBeta, GeometricVariance, LinearBeta, Schedule
from rsgm.schedules.discrete import DiscreteSchedule


class ExactScore(ReverseMode, HeatKernelScore):
    """Of a heat kernel."""


class Recorded(ScoreField):
    """A score that counts its evaluations and remembers their times."""

    def __init__(self, score):
        super().__init__(score.process)
        self.score, self.times = score, []

    def __deepcopy__(self, memo):
        return self  # the record must survive the copy that the likelihood makes

    def forward(self, t, x, context=None):
        return self.score(t, x, context)

    def with_divergence(self, t, x, directions, context=None):
        self.times.append(float(t.max()))
        assert float(t.min()) == float(t.max())
        return self.score.with_divergence(t, x, directions, context)


class Constant(ScoreField):
    """The tangent part of a constant vector."""

    def __init__(self, process, size):
        super().__init__(process)
        self.size = size

    def forward(self, t, x, context=None):
        return self.manifold.proju(x, torch.full_like(x, self.size))


def on_a_meridian(dim: int, angles: list[float]) -> torch.Tensor:
    angle = torch.tensor(angles, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin(), *[torch.zeros_like(angle)] * (dim - 1)], -1)


# ---- exact values


KNOWN = {"S1": Sphere(1), "S2": Sphere(2), "SO3": SpecialOrthogonal()}


def grouped(records):
    """By the law and the length of the flow, for one solution each."""
    groups = defaultdict(list)
    for record in records:
        groups[record["s0"], record["tau"]].append(record)
    assert groups
    return list(groups.items())


@pytest.mark.parametrize(
    "name, laws",
    [
        ("S1", slice(None)),
        ("S2", slice(None)),
        pytest.param("SO3", slice(None), marks=pytest.mark.slow),
    ],
    ids=["S1", "S2", "SO3"],
)
def test_reference(reference, name, laws):
    """36 records at 1e-5: heat kernels as data, uniform base, tolerance 1e-7."""
    manifold = KNOWN[name]
    known = grouped(record for record in reference("pf_ode_likelihood")["records"] if record["manifold"] == name)
    for (s0, tau), records in known[laws]:
        process = Brownian(manifold, ConstantBeta(tau), eps=1e-9)
        origin = manifold.origin(len(records), *manifold.shape, dtype=torch.float64)
        far = torch.tensor([record["dist0"] for record in records], dtype=torch.float64)
        x = manifold.expmap(origin, far.reshape(-1, *(1,) * len(manifold.shape)) * manifold.frame(origin)[0])
        found = ODESolver(tolerance=1e-7)(ExactScore(process, s0), x)
        expected = [record["loglik_with_uniform_base"] for record in records]
        assert found.value.tolist() == pytest.approx(expected, abs=1e-5)
        assert found.exact


def test_torus_reference(reference):
    """12 records, as above, of two different angles."""
    for (s0, tau), records in grouped(reference("pf_ode_likelihood")["T2"]):
        process = Brownian(Torus(2), ConstantBeta(tau), eps=1e-9)
        angles = torch.tensor([record["dtheta0"] for record in records], dtype=torch.float64)
        found = ODESolver(tolerance=1e-7)(ExactScore(process, s0), Torus(2).from_angles(angles))
        assert found.value.tolist() == pytest.approx([r["loglik_with_uniform_base"] for r in records], abs=1e-5)


class OwnLaw:
    """In place of the prior: the law at t = 1 itself."""

    def __init__(self, score):
        self.score = score

    def log_prob(self, x):
        centre = torch.eye(x.shape[1], dtype=x.dtype)[0].expand_as(x)
        s = self.score.s0 + self.score.process.schedule.integral(torch.ones(len(x), dtype=x.dtype))
        return self.score.manifold.heat_kernel_log_prob(centre, x, s)


def cases() -> list:
    """Every class of schedules on the circle, every sphere with one of them."""
    makes = {make.values[0].func: make for make in reversed(variants(Schedule))}
    found = [pytest.param(1, make.values[0], id=f"S1-{make.id}") for make in makes.values()]
    return found + [pytest.param(dim, partial(ConstantBeta, 2.5), id=f"S{dim}") for dim in (2, 3)]


@pytest.mark.parametrize("dim, make", cases())
def test_closed_form(dim, make):
    """With the law at t = 1 as the prior, the density is the heat kernel at s0 + s(eps): no base is approximate.

    The β of a chain jumps, and the solver's estimate of its error assumes that it does not.
    """
    process = Brownian(Sphere(dim), make(), eps=1e-3)
    score, x = ExactScore(process, 0.4), on_a_meridian(dim, [1e-3, 0.7, 1.5, 2.5])
    process._prior = OwnLaw(score)
    jumps = issubclass(getattr(make, "func", make), DiscreteSchedule)
    found = ODESolver(tolerance=1e-6 if jumps else 1e-7)(score, x).value
    s = torch.full((4,), 0.4 + process.resolution() ** 2, dtype=torch.float64)
    expected = process.manifold.heat_kernel_log_prob(on_a_meridian(dim, [0.0]).expand_as(x), x, s)
    assert torch.allclose(found, expected, rtol=0, atol=1e-3 if jumps else 1e-5)


def test_closed_form_with_the_general_divergence():
    """As above, with the divergence that every field has."""
    process = Brownian(Sphere(2), ConstantBeta(2.5), eps=0.5)
    score, x = ExactScore(process, 0.4), on_a_meridian(2, [0.1, 2.5])
    score.with_divergence = partial(Field.with_divergence, score)
    process._prior = OwnLaw(score)
    found = ODESolver(tolerance=1e-5)(score, x).value
    s = torch.full((2,), 0.4 + process.resolution() ** 2, dtype=torch.float64)
    expected = process.manifold.heat_kernel_log_prob(on_a_meridian(2, [0.0]).expand_as(x), x, s)
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_tolerance_is_kept():
    process = Brownian(Sphere(2), ConstantBeta(2.5), eps=1e-9)
    score, x = ExactScore(process, 0.4), on_a_meridian(2, [0.1, 0.8, 2.0])
    fine = ODESolver(tolerance=1e-9)(score, x)
    counts = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        found = ODESolver(tolerance=tolerance)(score, x)
        assert (found.value - fine.value).abs().max() < 30 * tolerance
        counts.append(found.nfe)
    assert counts[0] < counts[1] < counts[2] < fine.nfe


def test_zero_score_is_the_uniform_law():
    process = Brownian(Sphere(2))
    found = ODESolver()(Constant(process, 0.0), on_a_meridian(2, [0.1, 2.0]))
    assert found.value.tolist() == pytest.approx([-math.log(4 * math.pi)] * 2, abs=1e-14)


# ---- normalisation


@pytest.mark.parametrize(
    "manifold, resolution, scale",
    # a network on more coordinates has a sharper density, for the same nodes
    [(Sphere(1), 100, 1.0), (Sphere(2), 24, 1.0), (Torus(2), 20, 0.7), (SpecialOrthogonal(), 8, 0.7)],
    ids=str,
)
def test_density_of_a_random_network_integrates_to_one(manifold, resolution, scale):
    process = Brownian(manifold)
    nodes, weights = quadrature(process.manifold, resolution)
    value = ODESolver(tolerance=1e-6)(random_score(process, scale=scale), nodes).value
    # it is far from uniform
    assert value.max() - value.min() > 0.5
    assert float(weights @ value.exp()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("context", [[0.0, 0.0], [1.0, -2.0]])
def test_conditional_density_integrates_to_one(context):
    process = Brownian(Sphere(1))
    nodes, weights = quadrature(process.manifold, 40)
    labels = torch.tensor(context).expand(len(nodes), 2)
    score = random_score(process, context_features=2)
    value = ODESolver(tolerance=1e-6, batch_size=30)(score, nodes, labels).value
    assert float(weights @ value.exp()) == pytest.approx(1, abs=1e-4)


def test_the_context_matters_and_follows_its_point():
    process = Brownian(Sphere(2))
    score, x = random_score(process, context_features=2), on_a_meridian(2, [0.1, 0.1, 2.0])
    context = torch.tensor([[0.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    together = ODESolver(tolerance=1e-8)(score, x, context).value
    apart = ODESolver(tolerance=1e-8, batch_size=1)(score, x, context).value
    assert torch.allclose(together, apart, rtol=0, atol=1e-6)
    assert (together[0] - together[1]).abs() > 1e-3


# ---- times, counts, batches


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize("eps", [1e-3, 0.3])
def test_no_evaluation_outside_the_interval(size, eps):
    """However weak the field is: a solver that probes for its first step may look far ahead."""
    process = Brownian(Sphere(2), eps=eps)
    score = Recorded(Constant(process, size))
    ODESolver()(score, on_a_meridian(2, [0.1, 1.0, 2.0]))
    assert max(score.times) <= 1
    assert max(score.times) == pytest.approx(1, abs=1e-12)
    assert min(score.times) == eps


def test_no_evaluation_outside_the_interval_with_the_exact_score():
    process = Brownian(Sphere(2), LinearBeta())
    score = Recorded(ExactScore(process, 0.05))
    ODESolver()(score, on_a_meridian(2, [0.1, 1.0, 3.0]))
    assert max(score.times) <= 1
    assert min(score.times) == process.eps


def test_evaluations_are_counted_raw():
    """The mean over batches of the number of calls."""
    process = Brownian(Sphere(2))
    score = Recorded(random_score(process).double())
    x = process.manifold.random_uniform(7, 3, generator=seeded(), dtype=torch.float64)
    found = ODESolver(batch_size=3)(score, x)
    assert found.nfe == len(score.times) / 3
    assert found.value.shape == (7,)
    # no call at all is wasted on a batch of one
    score.times.clear()
    assert ODESolver()(score, x[:1]).nfe == len(score.times)


def test_a_point_does_not_depend_on_its_neighbours():
    """Alone or among 64 others, rough ones included, at tolerance 1e-6."""
    process = Brownian(Sphere(2))
    score = random_score(process, scale=2.0)
    x = process.manifold.random_uniform(64, 3, generator=seeded(), dtype=torch.float64)
    solver = ODESolver(tolerance=1e-6)
    together = solver(score, x).value
    alone = torch.cat([solver(score, point[None]).value for point in x[:8]])
    assert (together[:8] - alone).abs().max() < 5e-5
    assert together.std() > 0.1


def test_a_hard_point_among_easy_ones():
    """Decides the steps of all, as if it were alone; a mean over the batch would forget it."""
    process = Brownian(Sphere(2), ConstantBeta(1.0), eps=1e-3)
    score, solver = ExactScore(process, 0.05), ODESolver(tolerance=1e-4)
    x = on_a_meridian(2, [2.0] + [1e-3] * 100)
    alone, easy, together = solver(score, x[:1]), solver(score, x[1:]), solver(score, x)
    assert easy.nfe < alone.nfe <= together.nfe


def test_points_off_the_manifold_by_rounding():
    """Float32 points are those of the nearest double."""
    process = Brownian(Sphere(2))
    score, x = random_score(process), on_a_meridian(2, [0.4, 1.4]).float()
    found = ODESolver(tolerance=1e-7)(score, x).value
    assert found.dtype == torch.float64
    expected = ODESolver(tolerance=1e-7)(score, process.manifold.projx(x.double())).value
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


# ---- options


def test_float32():
    process = Brownian(Sphere(2))
    score, x = random_score(process), on_a_meridian(2, [0.4, 1.4])
    single = ODESolver(tolerance=1e-4, dtype="float32")(score, x).value
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), ODESolver()(score, x).value, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "name, value", [("tolerance", 0.0), ("tolerance", -1.0), ("tolerance", math.nan), ("batch_size", 0)]
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match="ODESolver: tolerance and batch_size must be positive, found"):
        ODESolver(**{name: value})


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_bad_tolerance_of_samples(value):
    with pytest.raises(ValueError, match="ODESolver: sample_tolerance must be positive, found"):
        ODESolver(sample_tolerance=value)


@pytest.mark.parametrize("manifold", [*map(Sphere, (1, 2, 3)), Torus(2), SpecialOrthogonal(), Euclidean(2)], ids=str)
@pytest.mark.parametrize("s_min", [1e-2, 1e-8])
def test_a_network_in_single_precision_is_as_good_at_the_default(manifold, s_min):
    """State and log-density stay double, so the error is that of the tolerance, at the finest scale of 1e-4 too."""
    process = VarianceExploding if isinstance(manifold, Euclidean) else Brownian
    score = random_score(process(manifold, GeometricVariance(s_min, 4.0), eps=0.0), scale=1.5)
    x = points(manifold, 16)
    fine = ODESolver(tolerance=1e-9)(score, x).value
    single, double = (ODESolver(dtype=dtype)(score, x) for dtype in ("mixed", "float64"))
    assert single.value.dtype == torch.float64
    assert single.solver["dtype"] == "mixed"
    error, usual = worst(single.value - fine), worst(double.value - fine)
    assert error < max(1.5 * usual, 3e-5)
    # nor does its rounding make more steps
    assert abs(single.nfe - double.nfe) <= 12


def test_mixed_is_double_where_rounding_would_be_seen():
    process = Brownian(Sphere(2))
    score, x = random_score(process), on_a_meridian(2, [0.4, 1.4])
    fine = ODESolver(tolerance=9e-6)(score, x)
    assert fine.solver["dtype"] == "float64"
    assert torch.equal(fine.value, ODESolver(tolerance=9e-6, dtype="float64")(score, x).value)
    assert not torch.equal(ODESolver()(score, x).value, ODESolver(dtype="float64")(score, x).value)


@pytest.mark.parametrize("make", variants(Divergence))
def test_stochastic_divergences(make):
    """Smooth along the flow, so that the solver arrives, and the same at each call; exact in dimension one or so."""
    process = Brownian(Sphere(2))
    score, x = random_score(process), on_a_meridian(2, [0.4, 1.4, 2.0])
    solver = ODESolver(divergence=make())
    one, same = (solver(score, x) for _ in range(2))
    assert torch.equal(one.value, same.value)
    assert one.nfe < 500
    exact = ODESolver()(score, x).value
    assert (one.value - exact).abs().max() < 2
    assert torch.equal(one.value, exact) == isinstance(make(), Exact)


def test_rademacher_likelihood_on_the_circle():
    """Where the estimator has no variance, it has the exact likelihood."""
    process = Brownian(Sphere(1))
    score, x = random_score(process), on_a_meridian(1, [0.4, 1.4, 2.0])
    (hutchinson,) = [make.values[0]() for make in variants(Divergence) if make.id == "Hutchinson"]
    found = ODESolver(tolerance=1e-7, divergence=hutchinson)(score, x).value
    assert torch.allclose(found, ODESolver(tolerance=1e-7)(score, x).value, rtol=0, atol=1e-6)


# ---- where it is called


def test_inference_mode_and_the_model_stays_as_it_is():
    process = Brownian(Sphere(2))
    score = random_score(process).train()
    x = on_a_meridian(2, [0.4, 1.4])
    expected = ODESolver()(score, x).value
    with torch.inference_mode():
        inside = ODESolver()(score, x.clone()).value
    assert torch.equal(inside, expected)
    assert score.training
    assert all(p.dtype == torch.float32 and p.requires_grad and p.grad is None for p in score.parameters())
    # and what inference mode may have cached does not spoil training
    score.with_divergence(torch.rand(2), x.float(), process.manifold.frame(x.float()))[1].sum().backward()


def test_first_use_in_inference_mode():
    """Tables of heat kernels that were made in inference mode must be good for training."""
    from rsgm import heat_kernels

    heat_kernels.compact._spectrum.cache_clear()
    process = Brownian(Sphere(2))
    x = on_a_meridian(2, [0.4, 1.4])
    with torch.inference_mode():
        ODESolver(tolerance=1e-3)(ExactScore(process, 0.5), x)
    y = x.clone().requires_grad_()
    s = torch.full((2,), 2.0, dtype=torch.float64)
    process.manifold.heat_kernel_score(x.flip(0), y, s).sum().backward()
    assert torch.isfinite(y.grad).all()


# ---- failures


class Broken(ScoreField):
    """Good at first."""

    def __init__(self, process, value):
        super().__init__(process)
        self.value = value

    def forward(self, t, x, context=None):
        return torch.where(t[:, None] > 0.5, self.value, 1.0) * self.manifold.proju(x, torch.ones_like(x))


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("eps", [0.1, 0.6], ids=["later", "from the start"])
def test_a_field_that_is_not_finite(value, eps):
    process = Brownian(Sphere(2), eps=eps)
    with pytest.raises(SolveError, match=r"^The ODE solve .*") as caught:
        ODESolver()(Broken(process, value), on_a_meridian(2, [0.4, 1.4]))
    assert "\n" not in str(caught.value)


def test_too_many_steps():
    sphere = Sphere(2)

    def slope(t, y):
        spin = torch.linalg.cross(torch.tensor([0.0, 0.0, 1e3]).to(y).expand_as(y), y)
        return spin, y[:, 0]

    message = r"solve from t = 0.0 to 1.0 at tolerance 1e-06 failed after \d+ evaluations .*raise eps, or loosen"
    with pytest.raises(SolveError, match=message):
        integrate(slope, sphere, on_a_meridian(2, [0.5]), 0.0, 1.0, 1e-6, max_steps=20)


# ---- the solver by itself


def test_integrate_by_closed_form():
    """A rotation by one radian with a divergence that depends on the way."""
    sphere, x = Sphere(1), on_a_meridian(1, [0.0, 1.0, 2.0])

    def slope(t, y):
        return torch.stack([-y[:, 1], y[:, 0]], -1), y[:, 0] + t

    end, integral, count = integrate(slope, sphere, x, 0.0, 1.0, 1e-10)
    angles = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    assert torch.allclose(end, on_a_meridian(1, [1.0, 2.0, 3.0]), rtol=0, atol=1e-9)
    assert torch.allclose(integral, (angles + 1).sin() - angles.sin() + 0.5, rtol=0, atol=1e-9)
    assert count > 6
    back, there, _ = integrate(slope, sphere, end, 1.0, 0.0, 1e-10)
    assert torch.allclose(back, x, rtol=0, atol=1e-8)
    assert torch.allclose(there, -integral, rtol=0, atol=1e-8)
