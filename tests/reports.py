"""Checkpoints that are assessed, of which reports are made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from helpers import learned
from rsgm.data import EarthData, LawData, ManifoldData, TorusData
from rsgm.distributions import RandomWrappedNormalMixture
from rsgm.evaluation import Assessment, assess
from rsgm.manifolds import Manifold, Product, SpecialOrthogonal, Sphere, Torus, to_lat_lon
from rsgm.models import FlowMatching, KernelDensity
from rsgm.networks import MLP

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


def given_data(folder: Path) -> EarthData:
    """Places of two kinds, the kind a context, its name and one of its values markup."""
    points = RandomWrappedNormalMixture(Sphere(2)).draw(900, torch.Generator().manual_seed(0))
    kinds = ["plain", EVIL]
    rows = [f"{a:.4f},{b:.4f},{kinds[k % 2]}" for k, (a, b) in enumerate(to_lat_lon(points).tolist())]
    (folder / "given.csv").write_text("\n".join([f"latitude,longitude,{EVIL}", *rows]) + "\n")
    return EarthData(path=str(folder / "given.csv"), context=[EVIL])


def assessed(data: ManifoldData, folder: Path) -> Assessment:
    """A kernel density of the data, or, given contexts, a flow of one step: written, and assessed as by the command."""
    model = KernelDensity(data.manifold, min_width=0.1, iterations=50)
    data.prepare_data()
    data.setup()
    if data.test.context is not None:
        network = partial(MLP, hidden=[8], context_features=data.test.context.shape[1])
        model = FlowMatching(data.manifold, network=network)
    path, _ = learned(model, data, folder, max_steps=1)
    return assess(path, data, samples=200)


#: data sets by what their pages show
KINDS = {
    "globe": earth_data,
    "angles": evil_data,
    "given": given_data,
    "ball": lambda _: law_data(SpecialOrthogonal()),
    "pairs": lambda _: law_data(Torus(5)),
    "product": lambda _: law_data(Product([Sphere(2), Torus(2), SpecialOrthogonal()])),
}
