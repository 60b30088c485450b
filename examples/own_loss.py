"""A loss of one's own: the mean of several noisy copies of each point."""

from dataclasses import dataclass

import torch

import rsgm
from rsgm.losses import DenoisingScoreMatching, Loss


@dataclass(frozen=True)
class Copies(Loss):
    copies: int = 4

    def __call__(self, score, x0, context=None, generator=None) -> torch.Tensor:
        return sum(DenoisingScoreMatching()(score, x0, context, generator) for _ in range(self.copies)) / self.copies


points = rsgm.Sphere(2).random_uniform(500, 3)
print(rsgm.fit(rsgm.RSGM(rsgm.Sphere(2), loss=Copies()), points, steps=10).log_prob(points).mean())
