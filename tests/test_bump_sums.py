"""Sums of bumps within reach, against the logarithms of the sums over all pairs."""

import pytest
import torch
from tqdm import tqdm

from helpers import seeded
from rsgm import Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.models import bump_sums
from rsgm.models.bump_sums import BumpSums, spatial_order

MANIFOLDS = [
    Sphere(1),
    Sphere(2),
    Sphere(4),
    Torus(2),
    Torus(7),
    SpecialOrthogonal(),
    Euclidean(2),
    Hyperbolic(2),
    Hyperbolic(3),
    Product([Sphere(2), Torus(1)]),
    Product([Euclidean(1), Hyperbolic(2)]),
]
every_manifold = pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
#: by the factor sqrt 2, whose kernels are squared, and by another one
GRIDS = {"squared": 1e-4 * 2 ** (0.5 * torch.arange(26.0).double()), "apart": torch.logspace(-5, 0.5, 7).double()}


def around(manifold: Manifold, centre: torch.Tensor, scale: float, n: int, seed: int) -> torch.Tensor:
    """Wrapped normal points."""
    start = centre.expand(n, *manifold.shape)
    z = scale * torch.randn(n, manifold.dim, generator=seeded(seed), dtype=torch.float64)
    return manifold.projx(manifold.expmap(start, manifold.from_frame(start, z)))


def case(manifold: Manifold) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres in groups of all scales, one of them a place that repeats; points among them, on them and far away."""
    origin = manifold.origin(*manifold.shape, dtype=torch.float64)
    middles = around(manifold, origin, 0.7, 4, 0)
    groups = [around(manifold, x, scale, 90, 1) for x, scale in zip(middles, (1.0, 0.1, 1e-3, 0.0), strict=True)]
    x = [around(manifold, y, scale, 20, 2) for y, scale in zip(middles, (1.0, 0.1, 1e-3, 1e-4), strict=True)]
    return torch.cat(groups), torch.cat([*x, *(group[:10] for group in groups), around(manifold, origin, 2.0, 15, 3)])


def all_pairs(manifold: Manifold, x: torch.Tensor, centres: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """Logarithms of the sums of the bumps over their constants."""
    square, log_factor = manifold.bump_pair(x[:, None], centres)
    return torch.stack([(log_factor - square / (2 * h**2)).logsumexp(1) for h in widths], 1)


@every_manifold
@pytest.mark.parametrize("widths", GRIDS.values(), ids=GRIDS)
def test_sums_are_those_over_all_pairs(manifold, widths, monkeypatch):
    """In many blocks; to 1e-9, as long as nothing underflows, and zero where all does."""
    monkeypatch.setattr(bump_sums, "_ROWS", 16)
    monkeypatch.setattr(bump_sums, "_COLUMNS", 32)
    centres, x = case(manifold)
    found = BumpSums(manifold, centres, widths)(x, tqdm(disable=True))
    expected = all_pairs(manifold, x, centres, widths)
    normal = expected > -700
    assert normal.any(0).all()
    assert (~normal).any()
    torch.testing.assert_close(found.log()[normal], expected[normal], rtol=0, atol=1e-9)
    assert (found[expected < -760] == 0).all()


@every_manifold
def test_sums_of_an_accelerator_are_the_same(manifold, monkeypatch):
    monkeypatch.setattr(bump_sums, "_FAR", 2_000)
    centres, x = case(manifold)
    widths = GRIDS["squared"][6:]
    counts = torch.arange(len(centres)).double() % 3 + 1
    for own in (None, counts):
        found = bump_sums.all_pairs(manifold, centres, widths, own, x, tqdm(disable=True))
        expected = BumpSums(manifold, centres, widths, own)(x, tqdm(disable=True))
        normal = expected > 1e-250
        torch.testing.assert_close(found[normal], expected[normal], rtol=1e-9, atol=0)


def test_narrow_bumps_see_few_pairs(monkeypatch):
    """The pairs grow with the number of centres within reach, not with that of all."""
    seen, sphere = [], Sphere(2)
    table = Sphere.bump_table

    def count(self, x, centres, error):
        if error:  # of the sums, not of the centres that bound them
            seen.append(len(x) * len(centres))
        return table(self, x, centres, error)

    monkeypatch.setattr(Sphere, "bump_table", count)
    monkeypatch.setattr(bump_sums, "_ROWS", 16)
    centres = sphere.random_uniform(40_000, 3, generator=seeded(), dtype=torch.float64)
    sums = BumpSums(sphere, centres, GRIDS["squared"][:12])
    assert (sums(centres[:2_000], tqdm(disable=True)) >= 1).all()
    assert sum(seen) < 0.1 * 2_000 * len(centres)


def test_an_order_holds_all_points_and_near_ones_together():
    x = torch.rand(1000, 2, generator=seeded())
    order = spatial_order(x, 64)
    assert torch.equal(order.sort().values, torch.arange(1000))
    sides = torch.stack([x[rows].amax(0) - x[rows].amin(0) for rows in order.split(64)])
    assert sides.amax() < 0.55
    # the same place many times
    assert len(spatial_order(torch.zeros(100, 2), 8)) == 100


def test_far_points_do_not_disturb_near_ones():
    """Not even where the squares of their distances overflow."""
    plane, generator = Euclidean(2), seeded()
    centres = torch.randn(700, 2, generator=generator, dtype=torch.float64)
    far = torch.tensor([[1e160, 0.0], [1e3, 1e3]], dtype=torch.float64)
    sums = BumpSums(plane, centres, GRIDS["squared"])
    found = sums(torch.cat([far[:1], centres[:40], far[1:]]), tqdm(disable=True))
    torch.testing.assert_close(found[1:-1], sums(centres[:40], tqdm(disable=True)), rtol=1e-12, atol=0)
    assert (found[[0, -1]] == 0).all()


def test_no_points_and_few_centres():
    sums = BumpSums(Sphere(2), Sphere(2).origin(1, 3, dtype=torch.float64), GRIDS["apart"])
    assert sums(torch.empty(0, 3, dtype=torch.float64), tqdm(disable=True)).shape == (0, 7)
    assert torch.equal(sums(sums.centres, tqdm(disable=True)), torch.ones(1, 7, dtype=torch.float64))
