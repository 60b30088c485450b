"""A kernel density on the sphere with widths chosen on held-out points: no training, no haversine by hand."""

import rsgm

train, val = rsgm.Sphere(2).random_uniform(1000, 3).split([800, 200])
kde = rsgm.KernelDensity(rsgm.Sphere(2))
kde.fit_points(train, val)
print(kde.log_prob(val).mean(), kde.sample(2, seed=0))
