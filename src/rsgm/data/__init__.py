"""Data sets: points on a manifold, split and served for training, validation and test."""

from rsgm.data.base import Batch, ManifoldData
from rsgm.data.earth import EarthData
from rsgm.data.images import Cifar10Data, DigitsData, MnistData
from rsgm.data.plane import (
    BlobsData,
    CheckerboardData,
    EightGaussiansData,
    GaussianMixtureData,
    MoonsData,
    SwissRollData,
)
from rsgm.data.points import PointsData
from rsgm.data.so3 import RotationData, RotationMixtureData
from rsgm.data.splits import Split
from rsgm.data.torus import DihedralTableData, TorusData, WrappedNormalTorusData
from rsgm.data.toy import (
    HyperbolicMixtureData,
    VonMisesFisherData,
    VonMisesFisherMixtureData,
    WrappedNormalMixtureData,
)

__all__ = [
    "Batch",
    "BlobsData",
    "CheckerboardData",
    "Cifar10Data",
    "DigitsData",
    "DihedralTableData",
    "EarthData",
    "EightGaussiansData",
    "GaussianMixtureData",
    "HyperbolicMixtureData",
    "ManifoldData",
    "MnistData",
    "MoonsData",
    "PointsData",
    "RotationData",
    "RotationMixtureData",
    "Split",
    "SwissRollData",
    "TorusData",
    "VonMisesFisherData",
    "VonMisesFisherMixtureData",
    "WrappedNormalMixtureData",
    "WrappedNormalTorusData",
]
