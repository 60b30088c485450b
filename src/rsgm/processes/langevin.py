"""Langevin diffusions to a wrapped normal law."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions import WrappedNormal
from rsgm.manifolds import Manifold, expand
from rsgm.processes.base import Process
from rsgm.schedules import LinearBeta, Schedule

#: the part of the variance time that the last step takes at most where its density is asked for
_LAST = 1 / 3


class Langevin(Process):
    r"""The Langevin diffusion :math:`dX = -\tfrac12\beta\nabla U(X)\,dt + \sqrt\beta\,dB` to the law :math:`e^{-U}`.

    The law is the wrapped normal at the manifold's origin o,
    :math:`U = d(x, o)^2 / (2\sigma_0^2) + \log|\det d\exp_o|`, with the gradient
    :math:`-\log_x(o)/\sigma_0^2 + \nabla\log|\det d\exp_o|`. There is no transition density:
    `perturb` simulates a geodesic random walk, so train with `ImplicitScoreMatching`, or with
    `DenoisingScoreMatching` on the walk's last step.

    On hyperbolic space Brownian motion would have no prior, for it never forgets its start: from a point of the plane
    at distance r from the origin the directions of its ends follow the Poisson kernel, which stays
    :math:`2\log\cosh(r/2)` nats (0.87 for r = 2) from every law that is symmetric about the origin.

    A step of variance time h carries the walker the part :math:`1 - e^{-a}`, :math:`a = h/(2\sigma_0^2)`, of the way to
    the origin and adds noise of variance :math:`\sigma_0^2(1 - e^{-2a})`: in flat space that is exact for any number of
    steps, elsewhere the bias is of the order of h times the curvature: on the hyperbolic plane after s = 2.5 with
    :math:`\sigma_0 = 0.5` the mean square distance from the origin is too large by about 1 % for 10 steps.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.1 and appendix.

    Arguments:
        manifold: the state space
        schedule: β and its integral; the law of the data is forgotten at the rate :math:`e^{-s/2\sigma_0^2}`
        eps: smallest time
        scale: :math:`\sigma_0`, standard deviation of the prior on the tangent space at the origin
        steps: of the simulation, equal in variance time

    Raises:
        ValueError: for a scale that does not fit a compact manifold

    Example:
        >>> from rsgm.manifolds import Hyperbolic
        >>> process = Langevin(Hyperbolic(2))
        >>> process.perturb(process.prior.draw(4), torch.full((4,), 0.5)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        manifold: Manifold,
        schedule: Schedule = LinearBeta(),
        eps: float = 1e-3,
        scale: float = 0.5,
        steps: int = 100,
    ) -> None:
        super().__init__(manifold, schedule, eps)
        if steps < 1:
            raise ValueError(f"Langevin: steps must be at least 1, found {steps}.")
        self.scale, self.steps = scale, steps
        self._prior = WrappedNormal(manifold, scale=scale)

    @property
    def prior(self) -> WrappedNormal:
        """The wrapped normal law at the origin."""
        return self._prior

    @override
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        pull, bend = self._gradient(x)
        return expand(self.schedule.beta(t) / 2, x) * (pull / self.scale**2 - bend)

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        r"""The exact divergence, whatever the directions.

        With :math:`\theta = |\det d\exp_o|` it is :math:`-\Delta U = -(d + \langle r\partial_r, \nabla\log\theta
        \rangle)/\sigma_0^2 - \Delta\log\theta`, times half the rate.
        """
        pull, bend = self._gradient(x)
        origin = self.manifold.origin(*x.shape, dtype=x.dtype, device=x.device)
        laplacian = self.manifold.log_det_exp_laplacian(origin, x)
        squares = (self.manifold.inner(x, pull, bend) - self.manifold.dim) / self.scale**2
        half = self.schedule.beta(t) / 2
        return expand(half, x) * (pull / self.scale**2 - bend), half * (squares - laplacian)

    @torch.no_grad()
    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A simulated path's end; no gradient flows through it."""
        return self._walk(x0, self.schedule.integral(t), self.steps, generator)

    @torch.no_grad()
    def perturb_with_score(
        self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""A simulated path's end, and the score of its last step given the point where that adds its noise.

        The step takes a third of the variance time, or the 1/``steps`` of the longest one where that is shorter. It
        first goes towards the origin, to y, then by a normal vector there, which makes its end wrapped normal around
        y, with a known score. Its mean given the end is the score of the walk's law, as that of the conditional score
        would be (the walk is a Markov chain), and its variance is larger by the ratio of the times: three, and more at
        late times, where the score is small.
        """
        s = self.schedule.integral(t)
        last = torch.minimum(s * _LAST, self.schedule.integral(torch.ones_like(t)) / self.steps)
        x = self._walk(x0, s - last, self.steps, generator)
        part, std = self._coefficients(last, x)
        pull, bend = self._gradient(x)
        y = self.manifold.expmap(x, part * (pull - self.scale**2 * bend))
        x = self.manifold.expmap(y, std * self.manifold.random_tangent(y, generator))
        return x, self.manifold.logmap(x, y) / std.square() - self.manifold.log_det_exp_gradient(y, x)

    def _walk(self, x: Tensor, s: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        part, std = self._coefficients(s / steps, x)
        half = expand(s / (2 * steps), x)
        for _ in range(steps):
            pull, bend = self._gradient(x)
            noise = self.manifold.random_tangent(x, generator)
            x = self.manifold.expmap(x, part * pull - half * bend + std * noise)
        return x

    def _coefficients(self, step: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The part of the way to the origin, and the standard deviation of the noise, of steps ``(B,)``."""
        ratio = step / (2 * self.scale**2)
        part, std = -torch.expm1(-ratio), self.scale * (-torch.expm1(-2 * ratio)).sqrt()
        return expand(part, like), expand(std, like)

    @override
    def conditional(self, x0: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(
            "Langevin has no transition density in closed form; train with ImplicitScoreMatching or "
            "SlicedScoreMatching, which need only its samples, or with DenoisingScoreMatching and its ExactTarget, "
            "which need only that of the last step of a simulation."
        )

    def _gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``log_x(o)`` and the gradient of ``log |det d exp_o|``."""
        origin = self.manifold.origin(*x.shape, dtype=x.dtype, device=x.device)
        return self.manifold.logmap(x, origin), self.manifold.log_det_exp_gradient(origin, x)
