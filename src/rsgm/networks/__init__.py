"""Networks f(t, x, context) that also push tangent vectors forward, and the features they start from."""

from rsgm.networks.activations import Activation, SiLU, Sin
from rsgm.networks.base import Network, value_and_jvp
from rsgm.networks.features import (
    BallCoordinates,
    Coordinates,
    FourierTime,
    LogSNR,
    LogTime,
    PositionFeatures,
    RandomFourier,
    RawTime,
    TimeFeatures,
    bind_times,
)
from rsgm.networks.mlp import MLP, ResidualMLP
from rsgm.networks.unet import UNet

__all__ = [
    "MLP",
    "Activation",
    "BallCoordinates",
    "Coordinates",
    "FourierTime",
    "LogSNR",
    "LogTime",
    "Network",
    "PositionFeatures",
    "RandomFourier",
    "RawTime",
    "ResidualMLP",
    "SiLU",
    "Sin",
    "TimeFeatures",
    "UNet",
    "bind_times",
    "value_and_jvp",
]
