"""Exact log-densities by an ODE, and lower bounds on them."""

from rsgm.likelihood.bounds import DenoisingBound, DivergenceBound, EvidenceLowerBound
from rsgm.likelihood.draws import Draws, transport
from rsgm.likelihood.flows import FieldFlow, Flow, ScoreFlow
from rsgm.likelihood.parts import PART, in_parts
from rsgm.likelihood.solver import LogProb, ODESolver, ScoreLikelihood, SolveError, batches, integrate, log_prob

__all__ = [
    "PART",
    "DenoisingBound",
    "DivergenceBound",
    "Draws",
    "EvidenceLowerBound",
    "FieldFlow",
    "Flow",
    "LogProb",
    "ODESolver",
    "ScoreFlow",
    "ScoreLikelihood",
    "SolveError",
    "batches",
    "in_parts",
    "integrate",
    "log_prob",
    "transport",
]
