"""Metrics of samples: formulas, the null, and the measured tables."""

import math

import pytest
import torch

from rsgm.distributions import GaussianMixture, Moons, SwissRoll
from rsgm.evaluation import sample_report
from rsgm.metrics import bits_per_dim, compare
from rsgm.metrics.samples import energy_distance, energy_gaps, mode_shares, sliced_wasserstein, squared_mmd
from rsgm.seeding import generator_from


def normal(n, d=2, name="x"):
    return torch.randn(n, d, generator=generator_from(name), dtype=torch.float64)


# ---- formulas


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("power", [1, 2])
def test_sliced_wasserstein_of_a_shift(d, power):
    """The mean of |theta . c|^p over uniform directions: |c| / sqrt(d) for p = 2."""
    x, shift = normal(300, d), torch.linspace(1, 2, d, dtype=torch.float64)
    found = sliced_wasserstein(x, x[torch.randperm(300)] + shift, power)
    mean = {2: d**-0.5, 1: math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))}[power]
    # of 500 directions, whose |cos| has a standard deviation below 0.36
    assert found == pytest.approx(shift.norm().item() * mean, rel=5 * 0.36 / mean / math.sqrt(500) / power)
    assert found == sliced_wasserstein(x, x + shift, power)
    if d == 1:
        assert found == pytest.approx(1, abs=1e-12)


def test_sliced_wasserstein_of_scaled_points():
    x = normal(500)
    assert sliced_wasserstein(x, 3 * x, 2) == pytest.approx(2 * sliced_wasserstein(x, 0 * x, 2))
    with pytest.raises(ValueError, match=r"equally many points, found \(500, 2\), \(499, 2\)"):
        sliced_wasserstein(x, x[1:])


def test_energy_distance_and_mmd_by_hand():
    x, y = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[3.0], [5.0], [6.0]]).double()
    between = (3 + 5 + 6 + 2 + 4 + 5) / 6
    assert energy_distance(x, y) == pytest.approx(2 * between - 1 - (2 + 3 + 1) / 3)

    def k(*distances):
        return sum(math.exp(-(r**2) / (2 * s**2)) for r in distances for s in (0.1, 0.2, 0.5, 1, 2)) / 5

    assert squared_mmd(x, y) == pytest.approx(k(1) + k(2, 3, 1) / 3 - 2 * k(3, 5, 6, 2, 4, 5) / 6)


@pytest.mark.parametrize("metric", [energy_distance, squared_mmd])
def test_unbiased_metrics_are_zero_on_average(metric):
    values = torch.tensor([metric(normal(50, name=f"x{k}"), normal(60, name=f"y{k}")) for k in range(200)])
    assert abs(values.mean()) < 5 * values.std() / len(values) ** 0.5
    assert (values < 0).any()
    assert values.mean() + 5 * values.std() < metric(normal(50), normal(60, name="y") + 2)
    with pytest.raises(ValueError, match="At least two points of each law are needed, found 1 and 60"):
        metric(normal(1), normal(60))


def test_energy_distance_of_normal_laws():
    """E|Z| of normals in the plane is sigma sqrt(pi / 2), so N(0, I) against N(0, 4 I) is known."""
    x, y = normal(3000), 2 * normal(3000, name="y")
    half = math.sqrt(math.pi / 2)
    expected = 2 * half * math.sqrt(5) - half * math.sqrt(2) - half * math.sqrt(8)
    assert energy_distance(x, y) == pytest.approx(expected, rel=0.1)


def test_energy_gap_has_the_sign_of_the_spread():
    law = GaussianMixture([[0.0, 0.0]], 1.0, None)
    x = normal(4000)
    for scale in (0.5, 1.0, 2.0):
        mean, median = energy_gaps(scale * x, law)
        # E|x|^2 / 2 is scale^2, its median scale^2 log 2
        assert mean == pytest.approx(scale**2 - 1, abs=5 * scale**2 / math.sqrt(4000))
        assert median == pytest.approx(scale**2 * math.log(2) - 1, abs=0.05 * scale**2)
    far = torch.cat([x[:-1], torch.tensor([[1e6, 0.0]]).double()])
    assert energy_gaps(far, law)[0] < 60 / 4000 + energy_gaps(x, law)[0] + 1e-9


def test_mode_shares():
    law = GaussianMixture.ring()
    x = law.draw(1000, generator_from("x"))
    assert mode_shares(x, law).sum() == 1
    assert mode_shares(x[law.modes(x) == 3], law).tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("dim", [1, 64, 3072])
def test_bits_of_a_uniform_model_are_those_of_the_levels(levels, dim):
    """And of a density that is one on each cell of the levels' cube: none less."""
    assert bits_per_dim(torch.zeros(1), dim, levels).item() == pytest.approx(math.log2(levels))
    certain = -dim * math.log(levels) * torch.ones(1, dtype=torch.float64)
    assert bits_per_dim(certain, dim, levels).item() == pytest.approx(0, abs=1e-12)


# ---- the measured tables: SW2 mean, sd; SW1 mean, p95; MMD p95; ED p95; and for a normal law with the same moments

TABLE = {
    "moons 0.05": (Moons(0.05), 0.0351, 0.0098, 0.0259, 0.0387, 0.0007, 0.0018, (0.206, 0.147, 0.0254, 0.0322)),
    "moons 0.1": (Moons(0.1), 0.0351, 0.0096, 0.0268, 0.0400, 0.0006, 0.0019, (0.195, 0.140, 0.0211, 0.0293)),
    "swissroll": (SwissRoll(0.05), 0.0328, 0.0088, 0.0246, 0.0341, 0.0005, 0.0013, (0.151, 0.110, 0.0143, 0.0149)),
    "GMM 0.95": (GaussianMixture(), 0.436, 0.200, 0.082, 0.149, 0.0003, 0.0032, (1.764, 1.208, 0.0752, 0.462)),
    "GMM 0.8": (
        GaussianMixture(weights=(0.8, 0.2)),
        *(0.526, 0.239, 0.110, 0.164, 0.0003, 0.0028),
        (2.737, 2.261, 0.1175, 1.260),
    ),
    "8 gaussians": (
        GaussianMixture.ring(),
        0.0813,
        0.0304,
        0.0454,
        0.0753,
        0.0004,
        0.0033,
        (0.420, 0.335, 0.0379, 0.0725),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_floors_and_normal_fits(name):
    law, sw2, sw2_sd, sw1, sw1_p95, mmd_p95, ed_p95, fits = TABLE[name]
    moments = law.draw(20_000, generator_from("moments"))
    x = moments.mean(0) + moments.std(0) * normal(2000, name=name)
    found = compare(x, law)
    assert found["sliced_w2"]["floor"] == pytest.approx(sw2, abs=sw2_sd)
    assert found["sliced_w1"]["floor"] == pytest.approx(sw1, abs=(sw1_p95 - sw1) / 1.64)
    assert found["squared_mmd"]["floor"] < mmd_p95
    assert found["energy_distance"]["floor"] < ed_p95
    for key in ("energy_gap", "median_gap"):
        assert found[key]["value"] > 1 > 5 * found[key]["floor_sd"]
    assert abs(found["energy_gap"]["floor"]) < 5 * found["energy_gap"]["floor_sd"] / 5**0.5
    # one draw of the normal law here and one there: distances scatter by up to 5 %, their squares by up to 10 %
    keys = {"sliced_w2": 0.15, "sliced_w1": 0.15, "squared_mmd": 0.3, "energy_distance": 0.3}
    for (key, tolerance), fit in zip(keys.items(), fits, strict=True):
        assert found[key]["value"] == pytest.approx(fit, rel=tolerance), key


# ---- compare


def test_the_law_itself_is_at_its_floor_and_repeats():
    law = GaussianMixture(weights=(0.7, 0.3))
    x = law.draw(500, generator_from("mine"))
    found = compare(x, law)
    assert (found["n"], found["references"]) == (500, 5)
    assert found["entropy"] == law.entropy().item()
    for key in ("energy_distance", "squared_mmd", "energy_gap"):
        row = found[key]
        assert abs(row["value"] - row["floor"]) < 5 * row["floor_sd"]
    modes = found["mode_weights"]
    assert modes["floor"] == pytest.approx([0.7, 0.3])
    assert modes["floor_sd"] == pytest.approx([math.sqrt(0.21 / 500)] * 2)
    assert modes["value"] == pytest.approx(modes["floor"], abs=5 * modes["floor_sd"][0])
    assert compare(x.float().double(), law)["sliced_w2"]["value"] == pytest.approx(
        found["sliced_w2"]["value"], abs=1e-5
    )
    assert compare(x, law) == found
    printed = sample_report(found)
    assert printed[0].startswith("500 samples against 5 draws")
    assert len(printed) == 1 + 6 + 2
    assert all("floor" in line for line in printed[1:])
    assert sum("share of mode" in line for line in sample_report(compare(x, Moons(0.1)))) == 0


def test_samples_that_are_not_finite():
    x = normal(10)
    x[:3, 0] = math.nan
    with pytest.raises(ValueError, match="3 of 10 samples are not finite"):
        compare(x, Moons())
