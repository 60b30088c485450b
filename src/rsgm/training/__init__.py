"""How models are learned: by a Trainer, or by `fit`."""

from rsgm.training.callbacks import EMA, AtomicCheckpointIO, Cost, FinalValidation, LastCheckpoint, SampleFigure
from rsgm.training.fit import fit, fit_in_one_pass, quiet
from rsgm.training.learning import ConstantRate, LearningRate, WarmupCosine
from rsgm.training.module import Training

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "ConstantRate",
    "Cost",
    "FinalValidation",
    "LastCheckpoint",
    "LearningRate",
    "SampleFigure",
    "Training",
    "WarmupCosine",
    "fit",
    "fit_in_one_pass",
    "quiet",
]
