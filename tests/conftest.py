"""What the tests share: reference values, and the concrete classes of each abstraction."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
import pkgutil
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rsgm
from rsgm.divergence import GaussianHutchinson
from rsgm.manifolds import Euclidean, Hyperbolic, Sphere

#: constructor arguments under which a class is tested, where "none" does not say enough
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Sphere": [{"dim": dim} for dim in (1, 2, 3, 5)],
    "Euclidean": [{"dim": 1}, {"dim": 3}],
    "Hyperbolic": [{"dim": dim} for dim in (1, 2, 3, 4)],
    "Product": [{}, {"factors": [Sphere(1), Sphere(1)]}, {"factors": [Hyperbolic(2), Euclidean(1), Sphere(2)]}],
    "Adapted": [{"volume": 8 * 2**0.5 * math.pi**2, "isotropic": True}],
    "LinearBeta": [{}, {"beta_0": 4.0, "beta_1": 0.5}, {"beta_0": 2.0, "beta_1": 2.0}],
    "GeometricVariance": [{}, {"s_min": 0.01, "s_max": 3.0}],
    "GeodesicEulerMaruyama": [{}, {"lmbd": 0.5}, {"lmbd": 1.0}],
    "SlicedScoreMatching": [{}, {"divergence": GaussianHutchinson()}],
    "WarmupCosine": [{}, {"warmup": 0}],
    "ConstantRate": [{}, {"warmup": 10}],
}


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
        if not abstract and cls.__module__.split(".")[0] == "rsgm":
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
