"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import (
    Cifar10Data,
    DigitsData,
    DihedralTableData,
    EarthData,
    LawData,
    ManifoldData,
    MnistData,
    PointsData,
    RotationData,
    TorusData,
)
from rsgm.evaluation import evaluate
from rsgm.manifolds import Adapted, Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.models import (
    CNF,
    RSGM,
    ChartSGM,
    CheckpointError,
    ExactScore,
    FlowMatching,
    GenerativeModel,
    KentMixture,
    KernelDensity,
    LatentEBM,
    Moser,
    load,
)

__version__ = version("rsgm")

__all__ = [
    "CNF",
    "RSGM",
    "Adapted",
    "ChartSGM",
    "CheckpointError",
    "Cifar10Data",
    "DigitsData",
    "DihedralTableData",
    "EarthData",
    "Euclidean",
    "ExactScore",
    "FlowMatching",
    "GenerativeModel",
    "Hyperbolic",
    "KentMixture",
    "KernelDensity",
    "LatentEBM",
    "LawData",
    "Manifold",
    "ManifoldData",
    "MnistData",
    "Moser",
    "PointsData",
    "Product",
    "RotationData",
    "SpecialOrthogonal",
    "Sphere",
    "Torus",
    "TorusData",
    "evaluate",
    "load",
]
