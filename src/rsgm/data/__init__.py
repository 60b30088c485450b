"""Data sets: points on a manifold, split and served for training, validation and test."""

from rsgm.data.base import Batch, ManifoldData, Rows
from rsgm.data.earth import EarthData
from rsgm.data.images import Cifar10Data, DigitsData, MnistData
from rsgm.data.laws import LawData
from rsgm.data.points import PointsData
from rsgm.data.so3 import RotationData
from rsgm.data.splits import Split
from rsgm.data.stars import StarData
from rsgm.data.tabular import TableData, read_points
from rsgm.data.torus import DihedralTableData, TorusData

__all__ = [
    "Batch",
    "Cifar10Data",
    "DigitsData",
    "DihedralTableData",
    "EarthData",
    "LawData",
    "ManifoldData",
    "MnistData",
    "PointsData",
    "RotationData",
    "Rows",
    "Split",
    "StarData",
    "TableData",
    "TorusData",
    "read_points",
]
