"""How models are learned: the learning rate, averaged weights, checkpoints."""

from rsgm.training.learning import ConstantRate, LearningRate, WarmupCosine

__all__ = ["ConstantRate", "LearningRate", "WarmupCosine"]
