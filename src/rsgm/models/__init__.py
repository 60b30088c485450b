"""Generative models: laws that are learned, each made of shared parts."""

from rsgm.models.adaptive import AdaptiveKernelDensity
from rsgm.models.base import GenerativeModel, Latents, NonFiniteLossError, Weights, load
from rsgm.models.chart_sgm import ChartSGM
from rsgm.models.checkpoint import (
    CheckpointError,
    read_checkpoint,
    record,
    require_weights,
    weights_in,
    write_checkpoint,
    write_tensors,
    written_by,
)
from rsgm.models.cnf import CNF
from rsgm.models.dynamics import Dynamics
from rsgm.models.exact import ExactScore
from rsgm.models.flow_matching import FlowMatching
from rsgm.models.kde import KernelDensity
from rsgm.models.kent import KentMixture
from rsgm.models.latent_ebm import LatentEBM
from rsgm.models.latent_law import LatentLaw
from rsgm.models.latent_marginal import ImportanceSampling
from rsgm.models.law import ModelDistribution
from rsgm.models.mixture import ModelMixture
from rsgm.models.moser import Moser
from rsgm.models.neural_kernels import NeuralKernelDensity
from rsgm.models.rsgm import RSGM
from rsgm.models.spline_flow import SplineFlow

__all__ = [
    "CNF",
    "RSGM",
    "AdaptiveKernelDensity",
    "ChartSGM",
    "CheckpointError",
    "Dynamics",
    "ExactScore",
    "FlowMatching",
    "GenerativeModel",
    "ImportanceSampling",
    "KentMixture",
    "KernelDensity",
    "LatentEBM",
    "LatentLaw",
    "Latents",
    "ModelDistribution",
    "ModelMixture",
    "Moser",
    "NeuralKernelDensity",
    "NonFiniteLossError",
    "SplineFlow",
    "Weights",
    "load",
    "read_checkpoint",
    "record",
    "require_weights",
    "weights_in",
    "write_checkpoint",
    "write_tensors",
    "written_by",
]
