"""A step of sampling of one's own: to the estimate of the data and back to the next level of noise."""

from dataclasses import dataclass

import rsgm
from rsgm.samplers import ReverseDiffusion, Stepper


@dataclass(frozen=True)
class ThereAndBack(Stepper):
    def __call__(self, step, x):
        return step.process.perturb(self.denoise(step, x, step.t), step.t_next, step.generator)


sphere = rsgm.Sphere(2)
points = sphere.heat_kernel_sample(sphere.origin(1000, 3), 0.1)
models = [rsgm.RSGM(sphere), rsgm.RSGM(sphere, sampler=ReverseDiffusion(100, ThereAndBack()))]
for model in models:
    samples = rsgm.fit(model, points, steps=100).sample(200, seed=0)
    print(f"{model.sampler.stepper}: mean -log p of samples {-model.log_prob(samples).mean():.2f} nats")
