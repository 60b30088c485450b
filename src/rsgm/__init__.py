"""Generative models on manifolds, on PyTorch Lightning."""

from importlib.metadata import version

from rsgm.data import EarthData, ManifoldData, VonMisesFisherData
from rsgm.evaluation import evaluate
from rsgm.manifolds import Euclidean, Manifold, Sphere
from rsgm.models import CNF, RSGM, CheckpointError, FlowMatching, GenerativeModel, KernelDensity, Moser, load

__version__ = version("rsgm")

__all__ = [
    "CNF",
    "RSGM",
    "CheckpointError",
    "EarthData",
    "Euclidean",
    "FlowMatching",
    "GenerativeModel",
    "KernelDensity",
    "Manifold",
    "ManifoldData",
    "Moser",
    "Sphere",
    "VonMisesFisherData",
    "evaluate",
    "load",
]
