"""Kernel densities whose widths and shapes follow the data."""

import math

import pytest
import torch

import rsgm
from conftest import quadrature, within
from helpers import curvature
from rsgm import (
    AdaptiveKernelDensity,
    Euclidean,
    Hyperbolic,
    KernelDensity,
    Manifold,
    NeuralKernelDensity,
    Product,
    SpecialOrthogonal,
    Sphere,
    Torus,
)
from rsgm.distributions import WrappedNormal
from rsgm.models import adaptive
from rsgm.models.blocks import nearest
from rsgm.models.kernels import Kernels
from rsgm.models.neighbourhoods import Places
from rsgm.models.tiles import NOTHING, Tile

SMALL = {"widths": 3, "min_width": 0.1, "neighbours": (2, 4, 6)}
MANIFOLDS = [
    Sphere(2),
    Torus(2),
    SpecialOrthogonal(),
    Euclidean(2),
    Hyperbolic(2),
    Product([Sphere(2), Torus(1)]),
    Product([Euclidean(1), Sphere(1)]),
]
every_manifold = pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
#: compact, with closed and with open factors; the others are among the slow tests
some_manifolds = pytest.mark.parametrize(
    "manifold", [pytest.param(m, marks=pytest.mark.slow if k % 3 else []) for k, m in enumerate(MANIFOLDS)], ids=str
)


def points(manifold: Manifold, n: int, seed: int = 0) -> torch.Tensor:
    """Around two centres, a narrow group and a wide one, along one axis more than along the others."""
    generator = torch.Generator().manual_seed(seed)
    origin = manifold.origin(*manifold.shape, dtype=torch.float64)
    far = 0.8 * torch.eye(manifold.dim, dtype=torch.float64)[0]
    other = manifold.expmap(origin, manifold.from_frame(origin, far))
    centre = torch.stack([origin, other]).repeat_interleave((n + 1) // 2, 0)[:n]
    scale = torch.tensor([0.15, 0.4], dtype=torch.float64).repeat_interleave((n + 1) // 2)[:n, None]
    z = scale * torch.randn(n, manifold.dim, generator=generator, dtype=torch.float64)
    z[:, 0] *= 2
    return manifold.expmap(centre, manifold.from_frame(centre, z))


@every_manifold
@pytest.mark.parametrize(("n", "k"), [(2, 1), (129, 128), (700, 5), (700, 200)])
def test_nearest_of_all(manifold, n, k):
    """As a search of all pairs finds them; equal points have the distance zero, or its rounding."""
    x = points(manifold, n)
    x[-1] = x[0]
    distance, index = nearest(manifold, x, k)
    pairs = manifold.dist(x[:, None], x[None]).fill_diagonal_(math.inf)
    torch.testing.assert_close(distance, pairs.topk(k, largest=False)[0], rtol=0, atol=1e-15)
    torch.testing.assert_close(pairs.gather(1, index), distance, rtol=0, atol=1e-15)
    assert all(len(set(row)) == k for row in index.tolist())
    # of some as of all, but for the rounding of sums in another order
    some = torch.randperm(n, generator=torch.Generator().manual_seed(1))[: n // 2]
    found, index = nearest(manifold, x, k, some)
    torch.testing.assert_close(found, distance[some], rtol=0, atol=1e-15)
    torch.testing.assert_close(pairs[some].gather(1, index), found, rtol=0, atol=1e-15)
    assert all(len(set(row)) == k for row in index.tolist())


def test_weights_are_fitted_on_some_of_many_points(monkeypatch):
    """Random ones stand for all, of the folds as of the validation set, each kind with the weight that it has."""
    manifold, seen = Sphere(2), []
    train, val = points(manifold, 600), points(manifold, 300, seed=1)
    fit = adaptive.fit_weights

    def fit_weights(log_parts, iterations, repeats, prior):
        seen.append((len(log_parts), repeats))
        return fit(log_parts, iterations, repeats, prior)

    monkeypatch.setattr(adaptive, "fit_weights", fit_weights)
    whole = AdaptiveKernelDensity(manifold, **SMALL)
    whole.fit_points(train, val)
    monkeypatch.setattr(adaptive, "_SCORED", 200)
    monkeypatch.setattr(adaptive, "_SCORED_PAIRS", 0)
    part = AdaptiveKernelDensity(manifold, **SMALL)
    part.fit_points(train, val)
    assert [number for number, _ in seen] == [900, 400]
    for repeats, of_folds in ((seen[0][1], 600), (seen[1][1], 200)):
        assert float(repeats[:of_folds].sum()) == pytest.approx(600)
        assert float(repeats[of_folds:].sum()) == pytest.approx(300)
    x = points(manifold, 300, seed=2)
    assert float((part.log_prob(x) - whole.log_prob(x)).mean().abs()) < 0.02


def fitted(manifold: Manifold, **arguments) -> AdaptiveKernelDensity:
    model = AdaptiveKernelDensity(manifold, **{**SMALL, **arguments})
    model.fit_points(points(manifold, 40), points(manifold, 16, seed=1))
    return model


def kernels(manifold: Manifold, n: int, widths: list[float], seed: int = 0) -> Kernels:
    """One family of kernels with the given widths along turned axes."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(n, 1, manifold.dim, manifold.dim, generator=generator, dtype=torch.float64))[0]
    scale = torch.tensor(widths, dtype=torch.float64).expand(n, 1, manifold.dim)
    return Kernels(points(manifold, n), turn, scale)


def log_prob(manifold: Manifold, law: Kernels, x: torch.Tensor) -> torch.Tensor:
    """The mean of the kernels of one family."""
    n = len(law.centres)
    return law.log_sums(manifold, x, torch.full((n, 1, 1), 1 / n, dtype=torch.float64))[:, 0, 0]


# ---- kernels


@every_manifold
def test_kernels_of_one_width_are_wrapped_normal_laws(manifold):
    law = kernels(manifold, 5, [0.3] * manifold.dim)
    x = points(manifold, 7, seed=3)
    expected = WrappedNormal(manifold, law.centres, 0.3).log_prob(x[:, None]).logsumexp(1) - math.log(5)
    # the normal law has a share of 1e-23 at most beyond the radius
    torch.testing.assert_close(log_prob(manifold, law, x), expected, rtol=0, atol=1e-9)


@every_manifold
def test_sums_within_reach_are_those_of_all_kernels(manifold, monkeypatch):
    """Of narrow and wide families, anisotropic, at near, repeated and far points; in value and gradient."""
    for name, size in (("_ROWS", 8), ("_CENTRES", 8), ("_TILE", 400)):
        monkeypatch.setattr("rsgm.models.kernels." + name, size)
    n, generator = 60, torch.Generator().manual_seed(5)
    centres = points(manifold, n)
    centres[50:] = centres[:10]
    scale = torch.tensor([1e-4, 3e-3, 0.05, 0.5], dtype=torch.float64)[:, None].expand(n, 4, manifold.dim)
    scale = scale * (1 + torch.rand(n, 4, manifold.dim, generator=generator, dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(n, 4, manifold.dim, manifold.dim, generator=generator, dtype=torch.float64))[0]
    weights = torch.rand(n, 4, 2, generator=generator, dtype=torch.float64)
    near = manifold.expmap(centres, 1e-3 * manifold.random_tangent(centres, generator))
    x = torch.cat([centres[:7], near[:20], points(manifold, 20, seed=3)])
    scale = scale.clone().requires_grad_()
    law = Kernels(centres, turn, scale)
    log_kernel = Tile(manifold, *law).log_prob(x)
    expected = (log_kernel[..., None] + weights[:, None].log()).logsumexp(0)
    found = law.log_sums(manifold, x, weights)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    whole, of_all = law.log_sum(manifold, x, weights[..., 0].log()), expected[..., 0].logsumexp(1)
    torch.testing.assert_close(whole, of_all, rtol=1e-11, atol=1e-11)
    # at points that narrow kernels do not reach their derivatives are those of nothing
    seen = expected[..., 0] > -100
    for one, other in ((found[..., 0][seen], expected[..., 0][seen]), (whole, of_all)):
        gradients = [torch.autograd.grad(value.sum(), scale, retain_graph=True)[0] for value in (one, other)]
        torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


def test_far_points_do_not_disturb_near_ones():
    """Not even where the squares of their distances overflow."""
    plane = Euclidean(2)
    law, x = kernels(plane, 40, [0.05, 0.02]), points(plane, 30, seed=1)
    expected = log_prob(plane, law, x)
    far = torch.cat([torch.full((1, 2), 1e160, dtype=torch.float64), x])
    for found in (
        log_prob(plane, law, far),
        law.log_sum(plane, far, torch.full((40, 1), -math.log(40), dtype=torch.float64)),
    ):
        torch.testing.assert_close(found[1:], expected, rtol=1e-12, atol=1e-12)


def test_a_floor_leaves_out_what_is_nothing_beside_it():
    sphere = Sphere(2)
    law, x = kernels(sphere, 40, [0.05, 0.05]), points(sphere, 30, seed=1)
    log_weights = torch.zeros(40, 1, dtype=torch.float64)
    whole, beside = (law.log_sum(sphere, x, log_weights, more) for more in (NOTHING, 2.0))
    two = torch.tensor(2.0, dtype=torch.float64)
    torch.testing.assert_close(torch.logaddexp(beside, two), torch.logaddexp(whole, two), rtol=0, atol=1e-12)
    # the farthest from all kernels have none beside a large number
    assert (law.log_sum(sphere, x, log_weights, 1e4) == NOTHING).all()


@pytest.mark.parametrize(
    ("manifold", "widths"),
    [(Sphere(2), [1.5, 0.7]), (Torus(2), [1.5, 0.7]), (Sphere(1), [2.0]), (Product([Sphere(1), Torus(1)]), [1.5, 0.7])],
    ids=str,
)
def test_wide_kernels_integrate_to_one(manifold, widths):
    """Where the exponential map is no bijection they are cut off, and a tenth of the normal law or more with them."""
    law = kernels(manifold, 1, widths)
    generator = torch.Generator().manual_seed(0)
    x = manifold.random_uniform(400_000, *manifold.shape, generator=generator, dtype=torch.float64)
    density = log_prob(manifold, law, x).exp() * math.exp(manifold.log_volume)
    assert (density == 0).any() or manifold.dim == 1
    error = float(density.std()) / len(x) ** 0.5
    assert error < 0.005
    assert abs(float(density.mean()) - 1) < 5 * error


@pytest.mark.parametrize(("dim", "width"), [(12, 0.5), (20, 0.45), (60, 0.25), (100, 0.2)])
def test_kernels_on_high_spheres_integrate_to_one(dim, width):
    """Where points are far from the centre, and exp shrinks volumes by any power of ten."""
    sphere = Sphere(dim)
    centre = sphere.origin(1, dim + 1, dtype=torch.float64)
    law = Kernels(
        centre, *(torch.eye(dim, dtype=torch.float64).expand(1, 1, dim, dim), width * centre.new_ones(1, 1, dim))
    )
    r = math.pi * (torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000
    x = torch.nn.functional.pad(torch.stack([r.cos(), r.sin()], 1), (0, dim - 1))
    log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2) + (dim - 1) * r.sin().log()
    value = law.log_sum(sphere, x, torch.zeros(1, 1, dtype=torch.float64))
    assert float((value + log_area).exp().sum()) * math.pi / 4_000 == pytest.approx(1, abs=1e-6)


def test_each_circle_of_a_torus_is_cut_by_itself():
    """In a hundred dimensions a ball of radius pi holds nothing of a law that each circle holds all of."""
    torus, width = Torus(100), 0.75
    n, generator = 300, torch.Generator().manual_seed(0)
    eye = torch.eye(100, dtype=torch.float64).expand(n, 1, 100, 100)
    law = Kernels(
        torus.origin(n, 100, 2, dtype=torch.float64), eye, torch.full((n, 1, 100), width, dtype=torch.float64)
    )
    x = law.draw(torus, torch.zeros(n, dtype=torch.long), generator)
    angle, share = torus.angles(x), math.erf(math.pi / width / 2**0.5)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), width).log_prob(angle)
    found = law.rows(slice(1)).log_sum(torus, x, torch.zeros(1, 1, dtype=torch.float64))
    torch.testing.assert_close(found, (normal - math.log(share)).sum(1), rtol=0, atol=1e-9)
    edge = math.exp(-0.5 * (math.pi / width) ** 2) / (2 * math.pi) ** 0.5
    assert within(angle.square(), width**2 * (1 - 2 * math.pi / width * edge / share))


@pytest.mark.parametrize("manifold", [Sphere(100), Torus(100), Product([Euclidean(1), Sphere(99)])], ids=str)
def test_draws_of_kernels_of_which_nearly_all_is_cut_off(manifold):
    """Their lengths are the chi-squared law's below the limit, of which it has here a share of 1e-9."""
    n, generator = 1_000, torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(100, 100, generator=generator, dtype=torch.float64))[0].expand(n, 1, 100, 100)
    width = torch.full((n, 1, 100), 0.5, dtype=torch.float64)
    width[..., 0] = 0.49  # so that angles depend on one another
    centre = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    law = Kernels(centre, turn, width)
    x = law.draw(manifold, torch.zeros(n, dtype=torch.long), generator)
    tile, v = (
        Tile(manifold, *law.rows(slice(1))),
        manifold.inner(centre, manifold.frame(centre), manifold.logmap(centre, x)),
    )
    v = v[tile.bounded].T
    square, limit = torch.einsum("ni,ij,nj->n", v, tile.precision[0, 0], v), float(tile.limit)
    assert bool((square < limit).all())
    chi2 = torch.distributions.Chi2(torch.tensor(float(len(tile.bounded)), dtype=torch.float64))
    grid = torch.linspace(0, limit, 20_001, dtype=torch.float64)[1:]
    density = chi2.log_prob(grid).exp()
    assert within(square, float((density * grid).sum() / density.sum()))


def test_kernels_are_not_cut_off_along_straight_lines():
    """On a cylinder the circle bounds the part on the circle only; the integral is one and the tails are there."""
    cylinder = Product([Euclidean(1), Sphere(1)])
    law = kernels(cylinder, 1, [1.5, 0.8])
    height = torch.linspace(-15, 15, 1501, dtype=torch.float64)
    angle = 2 * math.pi * torch.arange(400, dtype=torch.float64) / 400
    x = torch.cartesian_prod(height, angle)
    x = torch.cat([x[:, :1], x[:, 1:].cos(), x[:, 1:].sin()], 1)
    total = log_prob(cylinder, law, x).exp().sum() * (height[1] - height[0]) * (angle[1] - angle[0])
    assert float(total) == pytest.approx(1, abs=2e-3)
    far = law.centres[:1] + torch.tensor([[12.0, 0.0, 0.0]])
    assert float(log_prob(cylinder, law, far)) > -100


@every_manifold
def test_draws_of_wide_kernels_stay_within_the_cut(manifold):
    law = kernels(manifold, 300, [1.2] + [0.8] * (manifold.dim - 1))
    x = law.draw(manifold, torch.zeros(300, dtype=torch.long), torch.Generator().manual_seed(0))
    each = torch.stack([log_prob(manifold, law.rows(slice(i, i + 1)), x[i : i + 1])[0] for i in range(300)])
    assert (each > 0.5 * NOTHING).all()


def test_more_centres_and_points_than_are_held_at_a_time():
    plane = Euclidean(2)
    law = kernels(plane, 1_300, [0.2, 0.1])
    x = points(plane, 1_100, seed=2)
    parts = torch.stack([log_prob(plane, law.rows(slice(i, i + 100)), x) for i in range(0, 1_300, 100)])
    torch.testing.assert_close(log_prob(plane, law, x), parts.logsumexp(0) - math.log(13), rtol=0, atol=1e-10)


# ---- neighbours


def test_neighbours_of_places():
    """Repeated points are one place, which is nobody's neighbour when it is left out."""
    line = Euclidean(1)
    x = torch.tensor([0.0, 1.0, 1.0, 3.0, 3.0, 3.0 + 1e-15, 7.0], dtype=torch.float64)[:, None]
    places = Places.of(line, x, 2)
    assert places.points[:, 0].tolist() == pytest.approx([0, 1, 3, 7])
    assert places.count.tolist() == [1, 2, 3, 1]
    assert places.index.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert places.offset[:, 0, 0].tolist() == pytest.approx([1, -1, -2, -4])
    assert torch.allclose(places.offset[..., 0].abs(), places.distance)
    rest = Places.of(line, x, 3).without(line, torch.tensor([False, True, False, False]), 2)
    alone = Places.of(line, x[[0, 3, 4, 5, 6]], 2)
    for found, expected in zip(rest, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("manifold", [Sphere(2), Product([Sphere(2), Euclidean(1)])], ids=str)
@pytest.mark.parametrize("block", [False, True])
def test_places_without_a_fold_are_those_of_the_rest(manifold, block):
    """Also where most of the neighbours that were known went with a block."""
    x = points(manifold, 120)
    places = Places.of(manifold, x, 40)
    out = torch.arange(120) % 10 == 3
    if block:
        out = torch.zeros(120, dtype=torch.bool).index_fill(0, places.index[0, 1:], True)
        assert int((~out[places.index[~out]]).sum(1).min()) < 12
    rest, alone = places.without(manifold, out, 12), Places.of(manifold, places.points[~out], 12)
    order = alone.points[:, 0].argsort()[rest.points[:, 0].argsort().argsort()]
    torch.testing.assert_close(rest.distance, alone.distance[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(rest.points[rest.index], alone.points[alone.index[order]], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["places", "points", 2.0])
def test_left_out_points_and_the_places_of_the_others(kind):
    """Each point is left out once; a place of which a point stays, stays with what is left of it."""
    line = Euclidean(1)
    x = torch.tensor([0.0, 1.0, 1.0, 3.0, 3.0, 3.0, 7.0, 8.0], dtype=torch.float64)[:, None]
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    places, generator = Places.of(line, x, 3, weights), torch.Generator().manual_seed(0)
    found = list(places.left_out(line, kind, 3, 2, generator))
    assert len(found) == 3
    left = torch.zeros(4, dtype=torch.float64)
    for points_out, count, rest in found:
        at = torch.searchsorted(places.points[:, 0], points_out[:, 0])
        left[at] += count
        kept = torch.zeros(4, dtype=torch.float64).index_add(
            0, torch.searchsorted(places.points[:, 0], rest.points[:, 0]), rest.count
        )
        torch.testing.assert_close(kept.index_add(0, at, count), places.count)
        assert bool((kept[at] == 0).all()) == (kind != "points") or len(set(at.tolist()) & {1, 2}) == 0
        assert kind != 2.0 or at.tolist() in ([0, 1], [2], [3])
        alone = Places.of(line, rest.points, 2)
        torch.testing.assert_close(rest.points[rest.index], alone.points[alone.index])
        assert float(rest.weight.sum()) == pytest.approx(float(rest.count.sum()))
    assert left.tolist() == [1.0, 3.0, 5.0, 1.0]


# ---- the model


@pytest.mark.parametrize("manifold", [Sphere(2), Torus(2)], ids=str)
def test_density_integrates_to_one(manifold):
    model = fitted(manifold)
    x, volume = manifold.grid(20_000)
    assert float((model.log_prob(x).exp() * volume).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_density_integrates_to_one_in_the_plane():
    model = fitted(Euclidean(2))
    assert model.uniform == 0
    node = torch.linspace(-5, 6, 441, dtype=torch.float64)
    density = model.log_prob(torch.cartesian_prod(node, node)).exp()
    assert float(density.sum() * (node[1] - node[0]) ** 2) == pytest.approx(1, abs=1e-5)
    # far from all points it is small and finite
    assert torch.isfinite(model.log_prob(torch.tensor([[300.0, -300.0]])))


@every_manifold
def test_draws_follow_the_density(manifold):
    """E_q f / q is the integral of f for a bump f: it is one, within 5 standard errors of the draws."""
    model = fitted(manifold, min_width=0.2)
    x = model.sample(4_000, seed=0).double()
    centre = points(manifold, 1)
    ratio = (WrappedNormal(manifold, centre, 0.15).log_prob(x) - model.log_prob(x)).exp()
    error = float(ratio.std()) / len(x) ** 0.5
    assert error < 0.1
    assert abs(float(ratio.mean()) - 1) < 5 * error


@some_manifolds
def test_narrow_and_wide_groups_have_kernels_of_their_own(manifold):
    """Beside one width for all points the density of fresh points is larger."""
    train, val, test = (points(manifold, n, seed) for seed, n in enumerate((300, 60, 400)))
    adaptive, fixed = (
        AdaptiveKernelDensity(manifold, min_width=0.02, widths=12, **a) for a in ({}, {"neighbours": ()})
    )
    for model in (adaptive, fixed):
        model.fit_points(train, val)
    assert adaptive.log_prob(test).mean() > fixed.log_prob(test).mean()


def test_left_out_folds_leave_the_place_out():
    """Every point twice: under the kernels of all others the narrowest would have all of the weight."""
    sphere = Sphere(2)
    x = points(sphere, 60)
    once, twice = (AdaptiveKernelDensity(sphere, min_width=1e-4) for _ in range(2))
    val = points(sphere, 30, seed=1)
    once.fit_points(x, val)
    twice.fit_points(x.repeat_interleave(2, 0), val)
    assert len(twice.centres) == 60
    fresh = points(sphere, 200, seed=2)
    # the weights differ by how much the validation points count
    assert float((once.log_prob(fresh) - twice.log_prob(fresh)).mean()) == pytest.approx(0, abs=0.1)
    heavy = twice.kernel_weights.sum(0)[twice.kernel_widths.amax((0, 2)) < 1e-3]
    assert float(heavy.sum()) < 0.02


def test_left_out_points_say_how_often_places_are_met_again():
    """As of species: a place that was seen m times is met again in proportion to m - d (Pitman and Yor)."""
    sphere, discount = Sphere(2), 0.7
    where, counts, generator = points(sphere, 4_000), [], torch.Generator().manual_seed(0)
    draws = []
    while len(draws) < 3_000:  # a Pitman-Yor process without concentration
        mass = torch.tensor([*(count - discount for count in counts), discount * len(counts) if counts else 1.0])
        place = int(torch.multinomial(mass, 1, generator=generator))
        if place == len(counts):
            counts.append(0)
        counts[place] += 1
        draws.append(place)
    x = where[torch.tensor(draws)]
    train, val, test = x[:2_000], x[2_000:2_200], x[2_200:]
    single, whole = (
        AdaptiveKernelDensity(sphere, widths=4, neighbours=(), leave_out=kind) for kind in ("points", "places")
    )
    for model in (single, whole):
        model.fit_points(train, val)
    narrow = single.kernel_widths.amax(2) < 1e-3
    weight = (single.kernel_weights * narrow).sum(1)
    seen = (single.centres[:, None] == sphere.projx(train)[None]).all(2).sum(1)
    expected = (seen - discount) / len(train)
    for m in (1, 2, 3):
        ratio = float(weight[seen == m].mean() / expected[seen == m].mean())
        assert 0.6 < ratio < 1.6
    assert float(weight[seen > 5].sum() / expected[seen > 5].sum()) == pytest.approx(1, abs=0.15)
    assert float((single.log_prob(test) - whole.log_prob(test)).mean()) > 1


def test_left_out_cubes_say_how_far_new_points_are():
    """Pixels of clusters that are far apart: between them nothing is known by the nearest pixel."""
    plane, generator = Euclidean(2), torch.Generator().manual_seed(0)
    centres = torch.randint(0, 40, (160, 2), generator=generator) + 0.5
    x = (centres.repeat_interleave(12, 0) + 0.02 * torch.randn(1920, 2, generator=generator)).double()
    train, test = x[:1440], x[1440:]
    kinds = ("places", 1.0)
    near, far = (AdaptiveKernelDensity(plane, min_width=0.01, max_width=10, leave_out=k, folds=4) for k in kinds)
    for model in (near, far):
        model.fit_points(train, train[:0])
    assert far.log_prob(test).mean() > near.log_prob(test).mean() + 0.5


@pytest.mark.parametrize("cls", [AdaptiveKernelDensity, NeuralKernelDensity])
def test_cubes_that_hold_everything_are_refused(cls):
    x = points(Sphere(2), 20).abs()
    with pytest.raises(ValueError, match=r"leave_out is 3.0: all 20 places are in one cube of that size"):
        cls(Sphere(2), leave_out=3.0).fit_points(x, x)


def test_repeated_points_weigh_more():
    plane = Euclidean(2)
    x = points(plane, 30)
    x = torch.cat([x, x[:1].expand(60, 2)])
    model = AdaptiveKernelDensity(plane, widths=1, min_width=0.3, max_width=0.3, neighbours=())
    model.fit_points(x, x[:1].expand(20, 2))
    own = int((model.centres == x[0]).all(1).nonzero())
    # the validation points, all on this place, like its share of 61 in 90 better than one of 1 in 30; the folds, which
    # leave it out, do not mind
    assert float(model.kernel_weights[own].sum()) > 0.3


@pytest.mark.parametrize("n", [1, 2, 3])
@every_manifold
def test_few_points(manifold, n):
    model = AdaptiveKernelDensity(manifold, **SMALL)
    x = points(manifold, n)
    model.fit_points(x, x)
    assert torch.isfinite(model.log_prob(x)).all()
    assert model.sample(3, seed=0).shape == (3, *manifold.shape)


@every_manifold
def test_derivative_of_the_log_density(manifold):
    model = fitted(manifold)
    x = points(manifold, 5, seed=4)
    u = manifold.random_tangent(x, torch.Generator().manual_seed(6))
    t = torch.zeros(5, *(1,) * len(manifold.shape), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model.log_prob(manifold.expmap(x, t * u)).sum(), t)
    with torch.no_grad():
        ahead, behind = (model.log_prob(manifold.expmap(x, step * u)) for step in (1e-5, -1e-5))
    torch.testing.assert_close(slope.flatten(), (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-5)


@every_manifold
@pytest.mark.parametrize("cls", [AdaptiveKernelDensity, KernelDensity])
def test_second_derivatives_at_a_point_of_the_data(cls, manifold):
    x, model = points(manifold, 6), cls(manifold, widths=1, min_width=0.3, max_width=0.3)
    rsgm.fit(model, x)
    found, expected = curvature(lambda y: model.log_prob(y[None])[0], manifold, x[0])
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_derivative_where_there_is_nothing():
    """Out of reach of a kernel that is cut off its derivative is zero, and no number is missing."""
    sphere = Sphere(2)
    law = kernels(sphere, 2, [0.7, 0.1])
    x = (-law.centres).requires_grad_()
    value = log_prob(sphere, law, x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert (value < 0.5 * NOTHING).all()
    assert torch.equal(slope, torch.zeros_like(slope))


def test_saved_and_loaded(tmp_path):
    model = fitted(Sphere(2))
    model.save(tmp_path / "model.ckpt")
    again = rsgm.load(tmp_path / "model.ckpt")
    x = points(Sphere(2), 9, seed=5)
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert torch.equal(again.sample(9, seed=0), model.sample(9, seed=0))
    assert again.resolution() == 0.1


def test_weights_maximise_the_likelihood():
    """Of one width and the uniform law, on validation points alone: one place has no folds."""
    sphere = Sphere(2)
    model = AdaptiveKernelDensity(sphere, widths=1, min_width=0.3, max_width=0.3, neighbours=(), iterations=2_000)
    centre = points(sphere, 1)
    nodes, _ = quadrature(sphere, 6)
    val = torch.cat([points(sphere, 50, seed=1), nodes])
    model.fit_points(centre, val)

    def mean(share: float) -> float:
        kernel = WrappedNormal(sphere, centre, 0.3).log_prob(val).exp()
        return float((share * kernel + (1 - share) / (4 * math.pi)).log().sum())

    share = 1 - float(model.uniform)
    assert model.log_prob(val).sum().item() == pytest.approx(mean(share), abs=1e-6)
    assert all(mean(share) > mean(share + step) for step in (-0.02, 0.02))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"min_width": 0.0}, "0 < min_width <= max_width <= 0.785 is needed, found 0.0 and 0.5"),
        ({"max_width": 0.8}, "found 0.0001 and 0.8"),
        ({"folds": 1}, "widths >= 0 and folds >= 2 are needed, found 10 and 1"),
        ({"neighbours": (0,)}, r"neighbours >= 1, factors > 0 and isotropic in \(0, 1\] are needed, found \[0\]"),
        ({"factors": (-1.0,)}, r"found \[1, 2, 4, 8, 16, 32\], \[-1.0\] and 0.05"),
        ({"isotropic": 0.0}, "and 0.0"),
        ({"leave_out": "rows"}, "leave_out is 'rows', expected places, points, or a length above 0"),
        ({"leave_out": 0.0}, "leave_out is 0.0, expected places, points, or a length above 0"),
        ({"widths": 0, "neighbours": ()}, "no kernels; give widths >= 1, or neighbours and factors"),
    ],
    ids=str,
)
def test_arguments(arguments, found):
    with pytest.raises(ValueError, match=f"AdaptiveKernelDensity: .*{found}"):
        AdaptiveKernelDensity(Sphere(2), **arguments)


@pytest.mark.parametrize("n", [1, 4])
def test_one_place_and_nothing_to_weigh_its_kernels_by(n):
    x = Sphere(2).origin(n, 3)
    with pytest.raises(
        ValueError, match="AdaptiveKernelDensity: at least 2 distinct training points, or points to val"
    ):
        AdaptiveKernelDensity(Sphere(2), **SMALL).fit_points(x, x[:0])


def test_without_points():
    with pytest.raises(RuntimeError, match="AdaptiveKernelDensity has no points yet; call fit_points, or train it"):
        AdaptiveKernelDensity(Sphere(2)).sample(3)


# ---- learned


LEARNED = {"shapes": (6,), "neighbours": (2,), "widths": (0.3,), "min_width": 0.15, "hidden": 8}


@some_manifolds
def test_learned_widths_start_as_they_are_and_learn(manifold):
    """The loss is that of left-out points, and falls; the density of fresh points rises and integrates to one."""
    torch.manual_seed(0)
    model = NeuralKernelDensity(manifold, **LEARNED)
    train, fresh = points(manifold, 200), points(manifold, 300, seed=1)
    model.fit_points(train, fresh)
    kernels, start = model.law().kernels, model.log_prob(fresh).mean()
    torch.testing.assert_close(kernels.widths, model.kernel_widths, rtol=0.1, atol=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(train[:64])["loss"].mean().backward()
        optimizer.step()
    assert model.log_prob(fresh).mean() > start + 0.01
    x = model.sample(4_000, seed=0).double()
    ratio = (WrappedNormal(manifold, points(manifold, 1), 0.15).log_prob(x) - model.log_prob(x)).exp()
    error = float(ratio.std()) / len(x) ** 0.5
    assert error < 0.1
    assert abs(float(ratio.mean()) - 1) < 5 * error


def test_loss_is_minus_the_log_density_of_left_out_points():
    """Of two folds: under the law at the places of the other one."""
    sphere = Sphere(2)
    torch.manual_seed(0)
    model = NeuralKernelDensity(sphere, **LEARNED, folds=2, partitions=1)
    x = points(sphere, 40)
    model.fit_points(x, x)
    with torch.no_grad():
        terms = model.loss(x.repeat(10, 1))["loss"].double()
        expected = []
        for rest, left_out, _ in model._left_out:
            kernels, log_weights = model._modulated(rest)
            kernels = Kernels(*(part.double() for part in kernels))
            uniform = model.uniform_logit.double().sigmoid()
            weights = (1 - uniform) * log_weights.double().exp()
            density = kernels.log_sums(sphere, left_out.double(), weights[..., None]).exp().sum((1, 2))
            expected.append(-(density + uniform / (4 * math.pi)).log())
            # no place of a fold is a kernel of the others
            assert torch.cdist(left_out, rest.kernels.centres).min() > 1e-4
        assert len(expected[0]) == len(expected[1]) == 20
        # the 400 draws are of one fold
        nearest = [(terms[:, None] - values).abs().amin(1).max() for values in expected]
        assert min(nearest) < 1e-4 < max(nearest)


def test_learned_law_through_training_and_a_file(tmp_path):
    """Training's average of the weights has the buffers of the points; what it leaves is saved and loaded."""
    sphere = Sphere(2)
    model = rsgm.fit(
        NeuralKernelDensity(sphere, **LEARNED), points(sphere, 60), steps=3, batch_size=16, accelerator="cpu"
    )
    model.save(tmp_path / "model.ckpt")
    again = rsgm.load(tmp_path / "model.ckpt")
    x = points(sphere, 9, seed=5)
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert torch.equal(again.sample(9, seed=0), model.sample(9, seed=0))
    # as a part of another module, too
    whole, other = torch.nn.Sequential(model), torch.nn.Sequential(NeuralKernelDensity(sphere, **LEARNED))
    other.load_state_dict(whole.state_dict())
    assert torch.equal(other[0].log_prob(x), model.log_prob(x))


def test_weight_decay_is_of_matrices():
    model = NeuralKernelDensity(Sphere(2), **LEARNED)
    decayed, free = model.parameter_groups()
    assert "weight_decay" not in decayed
    assert free["weight_decay"] == 0
    assert all(p.dim() == 2 for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "arguments",
    [{"shapes": (), "neighbours": (), "widths": ()}, {"widths": (0.0,)}, {"hidden": 0}, {"folds": 1}, {"factor": 0.0}],
    ids=str,
)
def test_arguments_of_the_learned_law(arguments):
    with pytest.raises(ValueError, match=r"NeuralKernelDensity: shapes, neighbours or widths, all positive, .* found"):
        NeuralKernelDensity(Sphere(2), **arguments)


def test_learned_law_without_points():
    model = NeuralKernelDensity(Sphere(2))
    for ask in (lambda: model.sample(3), lambda: model.loss(points(Sphere(2), 3))):
        with pytest.raises(
            RuntimeError, match=r"NeuralKernelDensity has no points yet.*; call fit_points, or train it"
        ):
            ask()
    with pytest.raises(ValueError, match="folds of at least 2 distinct training points are needed, found 1"):
        model.fit_points(points(Sphere(2), 1), points(Sphere(2), 1))
