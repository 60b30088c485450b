"""Made-up earthquakes as a catalogue writes them: a plate that dips to the west. Writes quakes.csv and new.csv."""

import csv

import numpy as np

rng, n = np.random.default_rng(0), 3000
along, deep = rng.uniform(0, 1, n), rng.uniform(size=n) < 0.4
depth = np.where(deep, rng.uniform(70, 600, n), rng.gamma(2, 10, n))
latitude = -15 + 45 * along + rng.normal(0, 0.7, n)
longitude = 138 + 12 * np.cos(3 * along - 1.5) - depth / 60 + rng.normal(0, 0.7, n)
time = np.datetime64("2020-01-01T00:00:00") + np.sort(rng.integers(0, 150_000_000, n)).astype("timedelta64[s]")
rows = zip(
    time, latitude, longitude, depth, 4.5 + rng.exponential(0.5, n), np.where(deep, "slab", "crust"), strict=True
)
rows = [[f"{t}Z", *(f"{x:.3f}" for x in numbers), kind, "Sea, made up"] for t, *numbers, kind in rows]
for name, part in (("quakes.csv", rows[:2800]), ("new.csv", rows[2800:])):
    with open(name, "w", newline="") as file:
        csv.writer(file).writerows([["time", "latitude", "longitude", "depth", "mag", "kind", "place"], *part])
    print(f"{len(part)} events in {name}")
