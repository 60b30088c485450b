"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import EarthData, ManifoldData, VonMisesFisherData
from rsgm.evaluation import evaluate
from rsgm.manifolds import Euclidean, Manifold, SpecialOrthogonal, Sphere, Torus
from rsgm.models import RSGM, ChartSGM, CheckpointError, GenerativeModel, KernelDensity, load

__version__ = version("rsgm")

__all__ = [
    "RSGM",
    "ChartSGM",
    "CheckpointError",
    "EarthData",
    "Euclidean",
    "GenerativeModel",
    "KernelDensity",
    "Manifold",
    "ManifoldData",
    "SpecialOrthogonal",
    "Sphere",
    "Torus",
    "VonMisesFisherData",
    "evaluate",
    "load",
]
