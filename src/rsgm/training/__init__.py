"""How models are learned: by a Trainer, or by `fit`."""

from rsgm.training.callbacks import EMA, AtomicCheckpointIO, Cost, FinalValidation, LastCheckpoint
from rsgm.training.figures import DensityFigure, SampleFigure
from rsgm.training.fit import fit, fit_in_one_pass, quiet, require_one_split
from rsgm.training.learning import ConstantRate, LearningRate, WarmupCosine
from rsgm.training.module import Training, require_same_data
from rsgm.training.monitor import Curves, Outlook
from rsgm.training.processes import ProcessLost, Watch
from rsgm.training.signals import Interruption, Signals, Stopped

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "ConstantRate",
    "Cost",
    "Curves",
    "DensityFigure",
    "FinalValidation",
    "Interruption",
    "LastCheckpoint",
    "LearningRate",
    "Outlook",
    "ProcessLost",
    "SampleFigure",
    "Signals",
    "Stopped",
    "Training",
    "WarmupCosine",
    "Watch",
    "fit",
    "fit_in_one_pass",
    "quiet",
    "require_one_split",
    "require_same_data",
]
