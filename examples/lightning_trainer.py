"""A model in Lightning's own Trainer: a plain DataLoader, the averaged weights, and a test."""

import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, TensorDataset

import rsgm

points = torch.nn.functional.normalize(torch.randn(500, 3) + torch.tensor([0.0, 0.0, 2.0]), dim=1)
train, test = (DataLoader(TensorDataset(part), batch_size=100, shuffle=True) for part in points.split([400, 100]))
training = rsgm.Training(rsgm.RSGM(rsgm.Sphere(2)), averaging=0.99)
trainer = Trainer(max_steps=200, logger=False, enable_checkpointing=False)
trainer.fit(training, train)
trainer.test(training, test)
print(training.model.sample(2, seed=0))
