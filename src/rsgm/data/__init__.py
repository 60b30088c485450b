"""Data sets: points on a manifold, split and served for training, validation and test."""

from rsgm.data.base import Batch, ManifoldData, Split
from rsgm.data.earth import EarthData
from rsgm.data.toy import VonMisesFisherData

__all__ = ["Batch", "EarthData", "ManifoldData", "Split", "VonMisesFisherData"]
