"""Data of one's own, which no table holds: splits, loaders, metrics and pictures come with the class."""

from dataclasses import dataclass

import torch

import rsgm


@dataclass(eq=False, repr=False)
class Spiral(rsgm.ManifoldData):
    turns: float = 2.0
    manifold = rsgm.Sphere(2)

    def points(self) -> torch.Tensor:  # (N, 3), float64; with a context, the pair of both
        height = torch.linspace(-0.9, 0.9, 1000, dtype=torch.float64)
        angle, radius = torch.pi * self.turns * height, (1 - height**2).sqrt()
        return torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)


print(rsgm.fit(rsgm.RSGM(rsgm.Sphere(2)), Spiral(turns=3.0), steps=50).sample(2, seed=0))
