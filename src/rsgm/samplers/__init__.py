"""Drawing from a score model: steps, the one loop over time, and the one loop of Langevin dynamics."""

from rsgm.samplers.annealed import AnnealedLangevin, BoxStart, LangevinDynamics, PriorStart, Start
from rsgm.samplers.base import ProbabilityFlowSampler, ReverseDiffusion, Sampler
from rsgm.samplers.flow_steps import FlowStepper, Heun, RungeKutta
from rsgm.samplers.langevin import LangevinChain, gradient_of, langevin
from rsgm.samplers.steppers import (
    GaussianBridge,
    GeodesicEulerMaruyama,
    PredictorCorrector,
    Step,
    Stepper,
)

__all__ = [
    "AnnealedLangevin",
    "BoxStart",
    "FlowStepper",
    "GaussianBridge",
    "GeodesicEulerMaruyama",
    "Heun",
    "LangevinChain",
    "LangevinDynamics",
    "PredictorCorrector",
    "PriorStart",
    "ProbabilityFlowSampler",
    "ReverseDiffusion",
    "RungeKutta",
    "Sampler",
    "Start",
    "Step",
    "Stepper",
    "gradient_of",
    "langevin",
]
