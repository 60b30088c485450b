"""A network of one's own: any module of (t, x, context), whose derivatives torch.func takes."""

import torch

import rsgm


class Small(torch.nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(inputs + 1, 64), torch.nn.Tanh(), torch.nn.Linear(64, outputs)
        )

    def forward(self, t: torch.Tensor, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(torch.cat([t[:, None], x], 1))


points = rsgm.Sphere(2).random_uniform(500, 3)
print(rsgm.fit(rsgm.RSGM(rsgm.Sphere(2), network=Small), points, steps=50).log_prob(points).mean())
