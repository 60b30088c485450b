"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import EarthData, ManifoldData, VonMisesFisherData
from rsgm.evaluation import evaluate
from rsgm.manifolds import Adapted, Euclidean, Hyperbolic, Manifold, Product, Sphere
from rsgm.models import RSGM, CheckpointError, GenerativeModel, KernelDensity, load

__version__ = version("rsgm")

__all__ = [
    "RSGM",
    "Adapted",
    "CheckpointError",
    "EarthData",
    "Euclidean",
    "GenerativeModel",
    "Hyperbolic",
    "KernelDensity",
    "Manifold",
    "ManifoldData",
    "Product",
    "Sphere",
    "VonMisesFisherData",
    "evaluate",
    "load",
]
