"""A chart of one's own: the upper half of a sphere seen from its centre, for a flat score model."""

import torch

import rsgm
from rsgm.charts import Chart


class Gnomonic(Chart):
    def forward(self, y):
        return self.manifold.projx(torch.cat([y, torch.ones_like(y[..., :1])], -1))

    def inverse(self, x):
        return x[..., :-1] / x[..., -1:]

    def log_det(self, y):
        return -(self.manifold.dim + 1) / 2 * y.square().sum(-1).log1p()

    def misses(self, x):
        return x[..., -1] < 1e-7


sphere = rsgm.Sphere(2)
points = Gnomonic(sphere).forward(torch.randn(500, 2) / 4)
print(rsgm.fit(rsgm.ChartSGM(sphere, Gnomonic), points, steps=100).log_prob(points).mean())
