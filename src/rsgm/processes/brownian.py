"""Brownian motion on compact manifolds."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions import Uniform
from rsgm.manifolds import Manifold
from rsgm.processes.base import Process
from rsgm.schedules import LinearBeta, Schedule


class Brownian(Process):
    r"""Brownian motion on a compact manifold, run at rate β: no drift, uniform prior, the heat kernel in between.

    :math:`p_{t|0}` is the heat kernel at :math:`s(t) = \int_0^t \beta`, sampled exactly where the manifold knows
    how (no simulation while training).

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.1.

    Arguments:
        manifold: a compact manifold
        schedule: β and its integral; at s(1) = 2.5 the slowest mode is left with the part :math:`e^{-\lambda_1 s/2}` of
            its amplitude: 2 % on S³, 8 % on S² and SO(3), 29 % on a torus, where ``beta_1=15`` leaves 2 %. The density
            of a model misses it; the default sampler does not (see `settle`)
        eps: smallest time

    Raises:
        ValueError: where the manifold is not compact

    Example:
        >>> from rsgm.manifolds import Sphere
        >>> process = Brownian(Sphere(2))
        >>> north = torch.tensor([[0.0, 0.0, 1.0]])
        >>> process.perturb(north, torch.tensor([0.5])).shape
        torch.Size([1, 3])
    """

    settling = 0.3

    def __init__(self, manifold: Manifold, schedule: Schedule = LinearBeta(), eps: float = 1e-3) -> None:
        super().__init__(manifold, schedule, eps)
        self._prior = Uniform(manifold)

    @property
    @override
    def prior(self) -> Uniform:
        return self._prior

    @override
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @override
    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), torch.zeros_like(t)

    def settle(self, x: Tensor, score: Tensor, noise: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Two geodesic steps; a random one keeps the uniform law."""
        s = self.settling * self.schedule.integral(x.new_ones(()))
        x = self.manifold.expmap(x, s / 2 * score)
        return self.manifold.expmap(x, (noise * s).sqrt() * self.manifold.random_tangent(x, generator))

    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A heat-kernel draw at variance time s(t), counted from 0."""
        return self.manifold.heat_kernel_sample(x0, self.schedule.integral(t), generator)

    @override
    def perturb_with_score(
        self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.manifold.heat_kernel_sample_with_score(x0, self.schedule.integral(t), generator)

    def conditional(self, x0: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The heat kernel at s(t)."""
        return self.manifold.heat_kernel(x0, x, self.schedule.integral(t))

    @override
    def mixture_score(self, x0: Tensor, counts: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return self.manifold.heat_kernel_mixture_score(x0, counts, x, self.schedule.integral(t))
