"""A manifold of one's own: any of geoopt's, by its exponential map and its projections."""

import math

import geoopt

import rsgm
from rsgm.losses import ImplicitScoreMatching

volume = 8 * 2**0.5 * math.pi**2  # of pairs of orthonormal vectors in R^3
frames = rsgm.Adapted(geoopt.EuclideanStiefel, (3, 2), volume=volume, isotropic=True)
model = rsgm.RSGM(frames, loss=ImplicitScoreMatching())
points = frames.random_uniform(200, 3, 2)
rsgm.fit(model, points, steps=20, batch_size=50)
print(model.sample(2, seed=0))
