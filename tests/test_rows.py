"""What becomes of the rows of a file: contracts in terms of points, places and parts, whatever reads them."""

import math
from pathlib import Path

import numpy as np
import torch

from rsgm.data import EarthData, RotationData, TorusData


def write(folder: Path, text: str, name: str = "mine.csv") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def places(data) -> int:
    return data.provenance()["distinct_rows"]


def test_angles_a_turn_apart_are_one_place(tmp_path):
    """190 and -170 degrees are one angle, and so are 0 and 360."""
    phis, psis = [-180, -170, -10, 0] * 3, range(1, 13)
    rows = "".join(f"{phi},{psi}\n{phi + 360},{psi - 360}\n" for phi, psi in zip(phis, psis, strict=True))
    path = write(tmp_path, "phi,psi\n" + rows)
    data = TorusData(path=path, split="location")
    x = data.points()
    assert (x[::2] - x[1::2]).abs().max() < 1e-12
    assert places(data) == 12
    assert not data.twins().any()
    assert len(TorusData(path=path, dedup=True).points()) == 12


def test_both_quaternions_of_a_rotation_are_one_place(tmp_path):
    angles = np.linspace(0.1, 3, 20)
    q = np.stack([np.cos(angles / 2), 0.6 * np.sin(angles / 2), 0 * angles, 0.8 * np.sin(angles / 2)], -1)
    rows = "".join(",".join(map(repr, row.tolist())) + "\n" for both in zip(q, -q, strict=True) for row in both)
    path = write(tmp_path, "qw,qx,qy,qz\n" + rows)
    data = RotationData(path, split="location")
    x = data.points()
    assert (x[::2] - x[1::2]).abs().max() < 1e-12
    assert places(data) == 20
    assert not data.twins().any()
    assert len(RotationData(path, dedup=True).points()) == 20


def test_a_group_stays_in_one_part_where_repeated_rows_are_left_out(tmp_path):
    """Each kept row keeps its own label: here the label is the whole degree of phi."""
    generator = np.random.default_rng(0)
    group = generator.integers(0, 40, 200)
    phi = group + 0.125 * generator.integers(1, 5, 200)
    psi = generator.integers(-3, 3, 200)
    lines = [f"{a},{b},g{k}\n" for a, b, k in zip(phi, psi, group, strict=True)]
    path = write(tmp_path, "phi,psi,pdb\n" + "".join([*lines, *lines[::-1]]))
    data = TorusData(path=path, angles=["phi", "psi"], split="group", dedup=True)
    data.setup()
    kept = len(set(lines))
    assert kept < 200
    assert sum(data.provenance()["split"]["sizes"].values()) == places(data) == kept
    parts = [set(np.floor(data.to_units(part.points)[:, 0]).tolist()) for part in (data.train, data.val, data.test)]
    assert set.union(*parts) == set(group.tolist())
    assert sum(map(len, parts)) == len(set(group.tolist()))


def test_a_byte_order_mark_directly_before_a_name(tmp_path):
    """Where the first column is one that is read, its name is not the mark and the name."""
    rows = "".join(f"{k - 20},{3 * k}\n" for k in range(40))
    earth = EarthData(path=write(tmp_path, "\ufefflat,lon\n" + rows))
    np.testing.assert_allclose(earth.to_units(earth.points())[:, 0], np.arange(-20, 20), atol=1e-12)
    torus = TorusData(path=write(tmp_path, "\ufeffphi,psi\n" + rows), angles=["phi", "psi"])
    np.testing.assert_allclose(torus.to_units(torus.points())[:, 0], np.arange(-20, 20), atol=1e-12)
    quaternions = RotationData(write(tmp_path, "\ufeffqw,qx,qy,qz\n1,0,0,0\n"))
    assert torch.equal(quaternions.points()[0], torch.eye(3).double())


def test_the_jitter_is_a_function_of_the_seed(tmp_path):
    path = write(tmp_path, "lat,lon\n" + "".join(f"{k - 20},{3 * k}\n" for k in range(40)))
    one, same, other = (EarthData(path=path, dequantize_deg=0.1, seed=seed).points() for seed in (1, 1, 2))
    assert torch.equal(one, same)
    # in the order of the file both, and none of the rows where it was
    assert ((one - other).norm(dim=1) > 1e-6).all()
    assert ((one - other).norm(dim=1) < math.radians(1)).all()
