"""A manifold of its own: a Riemannian optimiser of geoopt, and a heat kernel with plain numbers."""

import geoopt
import torch

import rsgm
from rsgm.heat_kernels import SPHERE2

sphere, target = rsgm.Sphere(2), torch.tensor([0.0, 0.6, 0.8])
x = geoopt.ManifoldParameter(sphere.random_uniform(1, 3), manifold=sphere)
optimizer = geoopt.optim.RiemannianAdam([x], lr=0.1)
for _ in range(200):
    optimizer.zero_grad()
    sphere.dist(x, target).square().sum().backward()
    optimizer.step()
print(x.data, sphere.dist(x, target))
print(SPHERE2.log_prob(0.3, s=0.1), sphere.heat_kernel(target, target, 0.1))
