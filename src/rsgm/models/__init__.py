"""Generative models: each a final LightningModule made of shared parts."""

from rsgm.models.base import GenerativeModel
from rsgm.models.chart_sgm import ChartSGM
from rsgm.models.checkpoint import CheckpointError, load, read_checkpoint
from rsgm.models.kde import KernelDensity
from rsgm.models.kent import KentMixture
from rsgm.models.rsgm import RSGM

__all__ = [
    "RSGM",
    "ChartSGM",
    "CheckpointError",
    "GenerativeModel",
    "KentMixture",
    "KernelDensity",
    "load",
    "read_checkpoint",
]
