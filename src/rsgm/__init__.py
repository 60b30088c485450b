"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import (
    DihedralTableData,
    EarthData,
    ManifoldData,
    RotationData,
    RotationMixtureData,
    TorusData,
    VonMisesFisherData,
    VonMisesFisherMixtureData,
    WrappedNormalTorusData,
)
from rsgm.evaluation import evaluate
from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.models import CNF, RSGM, ChartSGM, CheckpointError, FlowMatching, GenerativeModel, KernelDensity, Moser, load

__version__ = version("rsgm")

__all__ = [
    "CNF",
    "RSGM",
    "ChartSGM",
    "CheckpointError",
    "DihedralTableData",
    "EarthData",
    "Euclidean",
    "FlowMatching",
    "GenerativeModel",
    "Hyperbolic",
    "KernelDensity",
    "Manifold",
    "ManifoldData",
    "Moser",
    "Product",
    "RotationData",
    "RotationMixtureData",
    "SpecialOrthogonal",
    "Sphere",
    "Torus",
    "TorusData",
    "VonMisesFisherData",
    "VonMisesFisherMixtureData",
    "WrappedNormalTorusData",
    "evaluate",
    "load",
]
