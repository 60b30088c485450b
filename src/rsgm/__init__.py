"""Generative models on manifolds.

Names are loaded when they are first used: what needs no training, a manifold, a model, a checkpoint, does not import
PyTorch Lightning.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not run `__getattr__`
    from rsgm.cli import from_data as from_data
    from rsgm.data import Cifar10Data as Cifar10Data
    from rsgm.data import DigitsData as DigitsData
    from rsgm.data import DihedralTableData as DihedralTableData
    from rsgm.data import EarthData as EarthData
    from rsgm.data import LawData as LawData
    from rsgm.data import ManifoldData as ManifoldData
    from rsgm.data import MnistData as MnistData
    from rsgm.data import PointsData as PointsData
    from rsgm.data import RotationData as RotationData
    from rsgm.data import TableData as TableData
    from rsgm.data import TorusData as TorusData
    from rsgm.evaluation import audit as audit
    from rsgm.evaluation import evaluate as evaluate
    from rsgm.manifolds import Adapted as Adapted
    from rsgm.manifolds import Euclidean as Euclidean
    from rsgm.manifolds import Hyperbolic as Hyperbolic
    from rsgm.manifolds import Manifold as Manifold
    from rsgm.manifolds import Product as Product
    from rsgm.manifolds import SpecialOrthogonal as SpecialOrthogonal
    from rsgm.manifolds import Sphere as Sphere
    from rsgm.manifolds import Torus as Torus
    from rsgm.models import CNF as CNF
    from rsgm.models import RSGM as RSGM
    from rsgm.models import AdaptiveKernelDensity as AdaptiveKernelDensity
    from rsgm.models import ChartSGM as ChartSGM
    from rsgm.models import CheckpointError as CheckpointError
    from rsgm.models import ExactScore as ExactScore
    from rsgm.models import FlowMatching as FlowMatching
    from rsgm.models import GenerativeModel as GenerativeModel
    from rsgm.models import KentMixture as KentMixture
    from rsgm.models import KernelDensity as KernelDensity
    from rsgm.models import LatentEBM as LatentEBM
    from rsgm.models import ModelMixture as ModelMixture
    from rsgm.models import Moser as Moser
    from rsgm.models import NeuralKernelDensity as NeuralKernelDensity
    from rsgm.models import SplineFlow as SplineFlow
    from rsgm.models import load as load
    from rsgm.training import Training as Training
    from rsgm.training import fit as fit

__version__ = version("rsgm")

#: where each public name lives
_HOMES = {
    "rsgm.cli": ["from_data"],
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
        "TableData",
        "TorusData",
    ],
    "rsgm.evaluation": ["audit", "evaluate"],
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
        "AdaptiveKernelDensity",
        "ChartSGM",
        "CheckpointError",
        "ExactScore",
        "FlowMatching",
        "GenerativeModel",
        "KentMixture",
        "KernelDensity",
        "LatentEBM",
        "ModelMixture",
        "Moser",
        "NeuralKernelDensity",
        "SplineFlow",
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
    return [*__all__, "__version__"]
