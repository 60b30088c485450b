"""Forward noising processes, their reversals, and the scores that networks make for them."""

from rsgm.processes.base import Process, Reverse, ScoreField
from rsgm.processes.brownian import Brownian
from rsgm.processes.gaussian import GaussianProcess, VarianceExploding, VariancePreserving
from rsgm.processes.langevin import Langevin
from rsgm.processes.predictions import (
    DataPrediction,
    DriftPrediction,
    NoisePrediction,
    Prediction,
    Score,
    VelocityPrediction,
)
from rsgm.processes.product import ProductProcess
from rsgm.processes.times import ContinuousTime, ImportanceTime, LadderTime, LogUniformTime, TimeSampler, UniformTime

__all__ = [
    "Brownian",
    "ContinuousTime",
    "DataPrediction",
    "DriftPrediction",
    "GaussianProcess",
    "ImportanceTime",
    "LadderTime",
    "Langevin",
    "LogUniformTime",
    "NoisePrediction",
    "Prediction",
    "Process",
    "ProductProcess",
    "Reverse",
    "Score",
    "ScoreField",
    "TimeSampler",
    "UniformTime",
    "VarianceExploding",
    "VariancePreserving",
    "VelocityPrediction",
]
