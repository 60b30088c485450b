"""Score matching: what is compared, at which times, with which weight."""

from rsgm.losses.matching import DenoisingScoreMatching, ImplicitScoreMatching, Loss, ScoreMatching, SlicedScoreMatching
from rsgm.losses.targets import ExactTarget, ScoreTarget, StableTarget, TruncatedTarget
from rsgm.losses.times import ContinuousTime, ImportanceTime, LadderTime, LogUniformTime, TimeSampler, UniformTime
from rsgm.losses.weightings import LikelihoodWeighting, NoiseWeighting, VarianceWeighting, Weighting

__all__ = [
    "ContinuousTime",
    "DenoisingScoreMatching",
    "ExactTarget",
    "ImplicitScoreMatching",
    "ImportanceTime",
    "LadderTime",
    "LikelihoodWeighting",
    "LogUniformTime",
    "Loss",
    "NoiseWeighting",
    "ScoreMatching",
    "ScoreTarget",
    "SlicedScoreMatching",
    "StableTarget",
    "TimeSampler",
    "TruncatedTarget",
    "UniformTime",
    "VarianceWeighting",
    "Weighting",
]
