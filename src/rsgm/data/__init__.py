"""Data sets: points on a manifold, split and served for training, validation and test."""

from rsgm.data.base import Batch, ManifoldData, Split
from rsgm.data.earth import EarthData
from rsgm.data.so3 import RotationData, RotationMixtureData
from rsgm.data.torus import DihedralTableData, TorusData, WrappedNormalTorusData
from rsgm.data.toy import VonMisesFisherData, VonMisesFisherMixtureData

__all__ = [
    "Batch",
    "DihedralTableData",
    "EarthData",
    "ManifoldData",
    "RotationData",
    "RotationMixtureData",
    "Split",
    "TorusData",
    "VonMisesFisherData",
    "VonMisesFisherMixtureData",
    "WrappedNormalTorusData",
]
