"""A loop of one's own, a file, a copy: a model is a torch module."""

import copy
import pickle

import torch

import rsgm

points, model = rsgm.Sphere(2).random_uniform(500, 3), rsgm.FlowMatching(rsgm.Sphere(2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(50):
    optimizer.zero_grad()
    model.loss(points)["loss"].mean().backward()
    optimizer.step()
model.save("flow.pt")
same = [rsgm.load("flow.pt"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
print([float(m.log_prob(points[0])) for m in same])
rsgm.fit(same[1], points, steps=20)
