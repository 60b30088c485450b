"""Score matching: what is compared, at which times, with which weight."""

from rsgm.losses.matching import DenoisingScoreMatching, ImplicitScoreMatching, Loss, ScoreMatching, SlicedScoreMatching
from rsgm.losses.targets import ExactTarget, ScoreTarget, StableTarget, TruncatedTarget
from rsgm.losses.weightings import LikelihoodWeighting, NoiseWeighting, VarianceWeighting, Weighting

__all__ = [
    "DenoisingScoreMatching",
    "ExactTarget",
    "ImplicitScoreMatching",
    "LikelihoodWeighting",
    "Loss",
    "NoiseWeighting",
    "ScoreMatching",
    "ScoreTarget",
    "SlicedScoreMatching",
    "StableTarget",
    "TruncatedTarget",
    "VarianceWeighting",
    "Weighting",
]
