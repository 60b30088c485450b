"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import (
    BlobsData,
    CheckerboardData,
    DihedralTableData,
    EarthData,
    EightGaussiansData,
    GaussianMixtureData,
    HyperbolicMixtureData,
    ManifoldData,
    MoonsData,
    RotationData,
    RotationMixtureData,
    SwissRollData,
    TorusData,
    VonMisesFisherData,
    VonMisesFisherMixtureData,
    WrappedNormalTorusData,
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
    Moser,
    load,
)

__version__ = version("rsgm")

__all__ = [
    "CNF",
    "RSGM",
    "Adapted",
    "BlobsData",
    "ChartSGM",
    "CheckerboardData",
    "CheckpointError",
    "DihedralTableData",
    "EarthData",
    "EightGaussiansData",
    "Euclidean",
    "ExactScore",
    "FlowMatching",
    "GaussianMixtureData",
    "GenerativeModel",
    "Hyperbolic",
    "HyperbolicMixtureData",
    "KentMixture",
    "KernelDensity",
    "Manifold",
    "ManifoldData",
    "MoonsData",
    "Moser",
    "Product",
    "RotationData",
    "RotationMixtureData",
    "SpecialOrthogonal",
    "Sphere",
    "SwissRollData",
    "Torus",
    "TorusData",
    "VonMisesFisherData",
    "VonMisesFisherMixtureData",
    "WrappedNormalTorusData",
    "evaluate",
    "load",
]
