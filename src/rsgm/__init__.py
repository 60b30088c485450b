"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import EarthData, ManifoldData, VonMisesFisherData
from rsgm.evaluation import evaluate
from rsgm.manifolds import Euclidean, Manifold, Sphere
from rsgm.models import RSGM, ChartSGM, CheckpointError, GenerativeModel, KentMixture, KernelDensity, load

__version__ = version("rsgm")

__all__ = [
    "RSGM",
    "ChartSGM",
    "CheckpointError",
    "EarthData",
    "Euclidean",
    "GenerativeModel",
    "KentMixture",
    "KernelDensity",
    "Manifold",
    "ManifoldData",
    "Sphere",
    "VonMisesFisherData",
    "evaluate",
    "load",
]
