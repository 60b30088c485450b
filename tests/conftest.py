"""What the tests share: reference values, and the concrete classes of each abstraction."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
import os
import pkgutil
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rsgm
from rsgm.divergence import GaussianHutchinson
from rsgm.losses import StableTarget
from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, Sphere
from rsgm.schedules import GridLadder

# Tests run side by side, one on each core: threads of their own would only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: constructor arguments under which a class is tested, where "none" does not say enough
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Sphere": [{"dim": dim} for dim in (1, 2, 3, 5)],
    "Euclidean": [{"dim": 1}, {"dim": 3}],
    "Torus": [{"dim": dim} for dim in (1, 2, 5)],
    "Hyperbolic": [{"dim": dim} for dim in (1, 2, 3, 4)],
    "Product": [{}, {"factors": [Sphere(1), Sphere(1)]}, {"factors": [Hyperbolic(2), Euclidean(1), Sphere(2)]}],
    "GaussianMixture": [
        {},
        {"means": [[1.0, 1.0], [-1.0, -1.0]], "scale": 0.15, "weights": [0.7, 0.3]},
        {"means": [[-1.0], [0.5], [2.0]], "scale": [0.3, 0.5, 0.2], "weights": None},
    ],
    "Moons": [{}, {"noise": 0.1}],
    "Checkerboard": [{}, {"side": 4.0, "cells": 2}],
    "Adapted": [{"volume": 8 * 2**0.5 * math.pi**2, "isotropic": True}],
    "LinearBeta": [{}, {"beta_0": 4.0, "beta_1": 0.5}, {"beta_0": 2.0, "beta_1": 2.0}],
    "GeometricVariance": [{}, {"s_min": 0.01, "s_max": 3.0}],
    "DiscreteLinear": [{}, {"count": 40}],
    "DiscreteCosine": [{"count": 100}],
    "PowerTimeGrid": [{}, {"power": 0.5}],
    "IndexGrid": [{"count": 1000}],
    "GridLadder": [{}, {"count": 1}],
    "GeodesicEulerMaruyama": [{}, {"lmbd": 0.5}, {"lmbd": 1.0}],
    "AnnealedLangevin": [{"ladder": GridLadder(5), "steps": 3}],
    "LangevinDynamics": [{"steps": 20}],
    "DenoisingBound": [{"slices": 4}],
    "DivergenceBound": [{"slices": 4}],
    "DenoisingScoreMatching": [{}, {"target": StableTarget(8)}],
    "SlicedScoreMatching": [{}, {"divergence": GaussianHutchinson()}],
    "WarmupCosine": [{}, {"warmup": 0}],
    "ConstantRate": [{}, {"warmup": 10}],
}

#: where a process, or a part that needs one with normal laws, images or frames, lives, if not on `Sphere(2)`; the
#: points of a process are three numbers
STATE_SPACES = dict.fromkeys(
    [
        "VariancePreserving",
        "VarianceExploding",
        "NoisePrediction",
        "DataPrediction",
        "VelocityPrediction",
        "GaussianBridge",
        "Affine",
        "Logit",
        "Standardise",
        "FrameField",
    ],
    Euclidean(3),
) | {"ProductProcess": Product(), "UNet": Euclidean(64)}

#: what holds points, a model or a function that no configuration can name, and so is tested by itself
IN_MEMORY = {"PointsData", "ModelDistribution", "Claimed"}


@functools.cache
def import_everything() -> None:
    """Import every module of the package, so that every subclass exists."""
    for module in pkgutil.walk_packages(rsgm.__path__, "rsgm."):
        importlib.import_module(module.name)


def concrete(base: type) -> list[type]:
    """All classes of the package that derive from ``base`` and can be constructed, in a fixed order."""
    import_everything()
    found, todo = set(), [base]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        abstract = inspect.isabstract(cls) or ABC in cls.__bases__
        if not abstract and cls.__name__ not in IN_MEMORY and cls.__module__.split(".")[0] == "rsgm":
            found.add(cls)
    assert found, f"no concrete {base.__name__}"
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def variants(base: type) -> list[Any]:
    """Constructors without arguments, one parameter set per class and variant, for ``parametrize``."""
    return [
        pytest.param(
            functools.partial(cls, **arguments),
            id="-".join([cls.__name__, *(f"{key}={value}" for key, value in arguments.items())]),
        )
        for cls in concrete(base)
        for arguments in VARIANTS.get(cls.__name__, [{}])
    ]


def each(base: type) -> list[Any]:
    """The concrete classes themselves, for ``parametrize``."""
    return [pytest.param(cls, id=cls.__name__) for cls in concrete(base)]


@pytest.fixture(scope="session")
def reference() -> Callable[[str], dict[str, Any]]:
    """``reference(name)``: the values computed at 30 digits in ``shared/reference/<name>.json``."""

    def read(name: str) -> dict[str, Any]:
        for folder in Path(__file__).resolve().parents:
            path = folder / "shared" / "reference" / f"{name}.json"
            if path.is_file():
                return json.loads(path.read_text())
        pytest.skip(f"no shared/reference/{name}.json in any folder above the tests")

    return read


@pytest.fixture
def float64() -> Any:
    """Float64 by default, where the code under test makes its own tensors."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


def within(values: torch.Tensor, expected: torch.Tensor | float, sigmas: float = 5.0) -> bool:
    """Whether the mean over the first axis lies within so many standard errors of what is expected.

    At five the false-alarm probability is 6e-7 for each number, with seeds fixed: once, or never.
    """
    error = values.double().std(0) / len(values) ** 0.5
    distance = (values.double().mean(0) - expected).abs()
    # a quantity without variance has to be equal, to rounding
    return bool((distance <= sigmas * error + 1e-12).all())


def quadrature(
    manifold: Manifold, resolution: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights on a compact manifold's chart: even along the axes that close, Gauss-Legendre along others."""
    nodes, weights = torch.zeros(1, 0, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for axis in range(manifold.dim):
        ends = torch.full((2, manifold.dim), 0.3, dtype=torch.float64)
        ends[:, axis] = torch.tensor([0.0, 1.0])
        first, last = manifold.from_unit_cube(ends)
        if torch.allclose(first, last, rtol=0, atol=1e-12):
            node = (torch.arange(2 * resolution, dtype=torch.float64) + 0.5) / (2 * resolution)
            weight = torch.full_like(node, 1 / (2 * resolution))
        else:
            height, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(resolution))
            node, weight = (1 + height) / 2, weight / 2
        count = len(node)
        nodes = torch.cat([nodes.repeat_interleave(count, 0), node.repeat(len(nodes))[:, None]], 1)
        weights = (weights[:, None] * weight).flatten()
    return manifold.from_unit_cube(nodes).to(dtype), (math.exp(manifold.log_volume) * weights).to(dtype)


@pytest.fixture
def count(record_property):
    """Notes what was tried and what of it was lost, for the last lines."""

    def note(what: str, lost: bool) -> None:
        record_property(f"{what}, tried", 1)
        record_property(f"{what}, lost", int(lost))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Of the tests of faults: how much was tried, and how much of it was lost."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    counts: dict[str, int] = {}
    for report in reports:
        if getattr(report, "when", None) == "call":
            for name, number in report.user_properties:
                counts[name] = counts.get(name, 0) + number
    for name, number in counts.items():
        terminalreporter.write_line(f"{name}: {number}")
