"""A density on a grid, samples of any shape, and one context for many points."""

from functools import partial

import torch

import rsgm
from rsgm.networks import MLP

sphere = rsgm.Sphere(2)
model = rsgm.RSGM(sphere, network=partial(MLP, context_features=2))
context = torch.tensor([1.0, 0.0])
grid = sphere.grid(500)
density = model.log_prob(grid.points, context).exp()
print(f"the density adds up to {(density * grid.volume).sum():.3f}")
print(model.sample((2, 3), context, seed=0).shape)
x = sphere.random_uniform(4, 5, 3).requires_grad_()
print(torch.autograd.grad(model.log_prob(x, context).sum(), x)[0].shape)
