"""Checkpoints that are assessed, of which reports are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from helpers import learned
from rsgm.data import EarthData, LawData, ManifoldData, TorusData
from rsgm.distributions import RandomWrappedNormalMixture
from rsgm.evaluation import Assessment, assess
from rsgm.manifolds import Manifold, Product, SpecialOrthogonal, Sphere, Torus, to_lat_lon
from rsgm.models import KernelDensity

#: what would run where it stood in a page as it is
EVIL = "<script>alert(1)</script>"
EVIL_FILE = "<img src=x onerror=alert(2)>.csv"
SIZES = {"train_size": 300, "val_size": 60, "test_size": 80}


def law_data(manifold: Manifold) -> LawData:
    """Draws of a mixture on a manifold."""
    return LawData(RandomWrappedNormalMixture(manifold), **SIZES)


def earth_data(folder: Path) -> EarthData:
    """Places in a table."""
    points = RandomWrappedNormalMixture(Sphere(2)).draw(500, torch.Generator().manual_seed(0))
    rows = "\n".join(f"{latitude:.4f},{longitude:.4f}" for latitude, longitude in to_lat_lon(points).tolist())
    (folder / "places.csv").write_text(f"latitude,longitude\n{rows}\n")
    return EarthData(path=str(folder / "places.csv"))


def evil_data(folder: Path) -> TorusData:
    """Two angles in a table whose names are markup."""
    angles = np.random.default_rng(0).normal([40, -60], 20, (500, 2))
    rows = "\n".join(f"{first:.3f},{second:.3f}" for first, second in angles)
    path = folder / EVIL_FILE
    path.write_text(f"{EVIL},psi\n{rows}\n")
    return TorusData(path=str(path), angles=[EVIL, "psi"])


def assessed(data: ManifoldData, folder: Path) -> Assessment:
    """A kernel density of the data, written, and assessed as the command does."""
    path, _ = learned(KernelDensity(data.manifold, min_width=0.1, iterations=50), data, folder)
    return assess(path, data, samples=200)


#: data sets by what their pages show
KINDS = {
    "globe": earth_data,
    "angles": evil_data,
    "ball": lambda _: law_data(SpecialOrthogonal()),
    "pairs": lambda _: law_data(Torus(5)),
    "product": lambda _: law_data(Product([Sphere(2), Torus(2), SpecialOrthogonal()])),
}
