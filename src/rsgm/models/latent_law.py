"""The joint law of a latent variable and a point."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rsgm.distributions import Normal
from rsgm.manifolds import Euclidean, Manifold
from rsgm.networks import Network, value_and_jvp


def squared_error(x: Tensor, mean: Tensor) -> Tensor:
    """``|x - mean|²`` over every axis but the first, ``(B,)``."""
    return (x - mean).square().flatten(1).sum(1)


class LatentLaw(nn.Module):
    r"""A latent variable with an energy-based prior, and a point that a network makes of it.

    .. math:: p_\alpha(z) = e^{f_\alpha(z)}\,p_0(z) / Z_\alpha, \quad p_0 = N(0, \sigma_0^2 I), \qquad
        p_\beta(x | z) = N(g_\beta(z), \sigma^2 I)

    References: Pang et al. 2020, "Learning Latent Space Energy-Based Prior Model", arXiv:2006.08205.

    Arguments:
        manifold: of x; Euclidean
        latent_dim: of z
        energy: factory of the network of f, the negative energy, which is evaluated at t = 0
        decoder: factory of the network of g, which is evaluated at t = 0
        sigma_0: standard deviation of p_0
        sigma: standard deviation of x around g(z), in units of x
        energy_bound: b, where f is :math:`b \tanh(\cdot / b)` of its network; None for the network itself

    Raises:
        ValueError: for a manifold that is not a vector space, and for numbers that are not positive
    """

    def __init__(
        self,
        manifold: Manifold,
        latent_dim: int,
        energy: Callable[[int, int], Network],
        decoder: Callable[[int, int], Network],
        sigma_0: float,
        sigma: float,
        energy_bound: float | None = None,
    ) -> None:
        super().__init__()
        if not (sigma > 0 and (energy_bound is None or energy_bound > 0)):
            raise ValueError(f"LatentLaw: sigma and energy_bound must be positive, found {sigma} and {energy_bound}.")
        manifold.require_vector_space("LatentLaw")
        self.manifold, self.latent = manifold, Euclidean(latent_dim)
        # chains that diverge have an error of their own
        self.reference = Normal(self.latent, sigma_0, validate_args=False)
        self.energy = energy(latent_dim, 1)
        self.decoder = decoder(latent_dim, torch.Size(manifold.shape).numel())
        self.sigma, self.energy_bound = sigma, energy_bound

    def tilt(self, z: Tensor) -> Tensor:
        """``f(z)``, ``(B,)``: the negative energy relative to p_0, nats."""
        f = self.energy(z.new_zeros(len(z)), z)[:, 0]
        return f if self.energy_bound is None else self.energy_bound * (f / self.energy_bound).tanh()

    def decode(self, z: Tensor) -> Tensor:
        """``g(z)``, ``(B, *shape)``."""
        return self.decoder(z.new_zeros(len(z)), z).unflatten(-1, self.manifold.shape)

    def log_prior(self, z: Tensor) -> Tensor:
        """``log p_α(z) + log Z_α``, ``(B,)``."""
        return self.tilt(z) + self.reference.log_prob(z)

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """``log p_α(z) p_β(x | z) + log Z_α``, ``(B,)``."""
        constant = self.manifold.dim * (0.5 * math.log(2 * math.pi) + math.log(self.sigma))
        return self.log_prior(z) - squared_error(x, self.decode(z)) / (2 * self.sigma**2) - constant

    def draw_reference(self, n: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws of p_0, ``(n, latent_dim)``, of the dtype and device of ``like``."""
        return self.reference.scale * like.new_empty(n, self.latent.dim).normal_(generator=generator)

    def resample(self, z: Tensor, x: Tensor, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        r"""For each x ``(B, *shape)``, ``n`` of the draws z of p_α, with probabilities in proportion to
        :math:`p_\beta(x|z)`, ``(n * B, latent_dim)``, x varying fastest (sampling importance resampling).

        Draws of p(z|x) where there are many z, and in every mode of it; where there are few, the nearest.
        """
        weight = torch.softmax(torch.cdist(x.flatten(1), self.decode(z).flatten(1)).square() / (-2 * self.sigma**2), 1)
        return z[torch.multinomial(weight, n, replacement=True, generator=generator).T.flatten()]

    def precision(self, z: Tensor) -> Tensor:
        r"""Of p(z|x) around z, :math:`\sigma_0^{-2} I + \sigma^{-2} J^\top J` with the Jacobian J of g (Gauss-Newton).

        ``(B, latent_dim, latent_dim)``; the curvature of f, of either sign, is left out.
        """
        _, push = value_and_jvp(self.decoder, z.new_zeros(len(z)), z, self.latent.frame(z))
        prior = torch.eye(self.latent.dim, dtype=z.dtype, device=z.device) / self.reference.scale**2
        return prior + torch.einsum("ibk,jbk->bij", push, push) / self.sigma**2
