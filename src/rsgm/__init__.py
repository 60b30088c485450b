"""Generative models on manifolds.

Names are loaded when they are first used: what needs no training, a manifold, a model, a checkpoint, does not import
PyTorch Lightning.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("rsgm")

#: where each public name lives
_HOMES = {
    "rsgm.data": [
        "Cifar10Data",
        "DigitsData",
        "DihedralTableData",
        "EarthData",
        "LawData",
        "ManifoldData",
        "MnistData",
        "PointsData",
        "RotationData",
        "TorusData",
    ],
    "rsgm.evaluation": ["evaluate"],
    "rsgm.manifolds": [
        "Adapted",
        "Euclidean",
        "Hyperbolic",
        "Manifold",
        "Product",
        "SpecialOrthogonal",
        "Sphere",
        "Torus",
    ],
    "rsgm.models": [
        "CNF",
        "RSGM",
        "ChartSGM",
        "CheckpointError",
        "ExactScore",
        "FlowMatching",
        "GenerativeModel",
        "KentMixture",
        "KernelDensity",
        "LatentEBM",
        "Moser",
        "load",
    ],
    "rsgm.training": ["Training", "fit"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rsgm' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
