"""From places on the globe to their density, in ten lines."""

import numpy as np

import rsgm

latitudes, longitudes = np.random.default_rng(0).normal([[40.0], [-120.0]], [[5.0], [8.0]], (2, 400))
data = rsgm.PointsData.from_lat_lon(latitudes, longitudes)  # fit also takes a DataFrame with columns lat and lon
model = rsgm.fit(rsgm.RSGM(rsgm.Sphere(2)), data, steps=100)
here, antipode = model.log_prob(data.test.points).mean(), model.log_prob(-data.test.points).mean()
print(f"mean log-density of the test points {here:.2f}, of their antipodes {antipode:.2f} nats")
print(data.to_units(model.sample(3, seed=0)).round(1))
