"""The latent-space energy-based prior."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.models.base import GenerativeModel, Latents, NonFiniteLossError
from rsgm.models.latent_law import LatentLaw, squared_error
from rsgm.models.latent_marginal import ImportanceSampling
from rsgm.networks import MLP, Network, SiLU
from rsgm.samplers import LangevinChain, gradient_of


class DivergenceError(NonFiniteLossError):
    """The energy or the latent variable grows without end, though all numbers are still finite."""


class LatentEBM(GenerativeModel):
    r"""A latent variable with an energy-based prior, and a point that a network makes of it.

    .. math:: p_\alpha(z) \propto e^{f_\alpha(z)}\,N(z; 0, \sigma_0^2 I), \qquad
        p_\beta(x|z) = N(g_\beta(z), \sigma^2 I)

    Learned by maximum likelihood, with z from short Langevin chains that are not differentiated:

    .. math:: \mathcal L = f_\alpha(z^-) - f_\alpha(z^+) + \rho\,(f_\alpha(z^-)^2 + f_\alpha(z^+)^2)
        + \|x - g_\beta(z^+)\|^2 / 2\sigma^2, \qquad z^- \sim p_\alpha, \; z^+ \sim p(z|x)

    The first two terms *raise* f where the data are. The gradients of :math:`\alpha` and of :math:`\beta` are
    disjoint, so one element-wise optimiser (Adam, SGD) with two groups of parameters is two optimisers; Adam absorbs
    the factor :math:`1/2\sigma^2`. Where f learns faster than the chains follow, training diverges: keep
    ``energy_lr`` at a fifth of the optimiser's rate, or less.

    References: Pang, Han, Nijkamp, Zhu and Wu 2020, "Learning Latent Space Energy-Based Prior Model",
    arXiv:2006.08205, algorithm 1.

    Arguments:
        manifold: where the points live; Euclidean
        latent_dim: dimension of z
        energy: factory of the network of f, the negative energy, from its input and output sizes; None for an `MLP`
            of two layers of 64 with `SiLU`
        decoder: factory of the network of g, the generator, from its input and output sizes; None likewise
        sigma_0: standard deviation of p_0, the law that f tilts
        sigma: standard deviation of x around g(z), in units of x
        energy_bound: b, where f is :math:`b \tanh(\cdot / b)` of its network; None for the network itself
        rho: weight of the squared energies
        prior_chain: of :math:`p_\alpha`, from p_0; also that of samples
        posterior_chain: of p(z|x)
        posterior_init: where it starts: ``p0``, at the draws of p_0 that the other one starts from, as in the paper; or
            ``prior``, at that one's ends, each drawn for x in proportion to p(x|z) (see `LatentLaw.resample`), so that
            a short chain does not have to find the mode of p(z|x) by itself
        noise: whether samples are x, or only g(z)
        marginal: how log-densities are estimated
        energy_lr: learning rate of f; the optimiser's own is that of g
        max_gap: of the mean of f over :math:`z^+` from that over :math:`z^-`, nats; beyond it training stops
        max_spread: of the standard deviations of :math:`z^-` and :math:`z^+`, in units of sigma_0; likewise

    Raises:
        ValueError: for a manifold that is not a vector space, and for numbers out of range

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> model = LatentEBM(Euclidean(3))
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 3])
    """

    parts_points = True  # with one stream of draws for all, which a call begins anew

    def __init__(
        self,
        manifold: Manifold,
        latent_dim: int = 2,
        energy: Callable[[int, int], Network] | None = None,
        decoder: Callable[[int, int], Network] | None = None,
        sigma_0: float = 1.0,
        sigma: float = 0.3,
        energy_bound: float | None = None,
        rho: float = 0.02,
        prior_chain: LangevinChain = LangevinChain(20, 0.08),
        posterior_chain: LangevinChain = LangevinChain(20, 0.02),
        posterior_init: Literal["p0", "prior"] = "p0",
        noise: bool = True,
        marginal: ImportanceSampling = ImportanceSampling(),
        energy_lr: float = 2e-4,
        max_gap: float = 100.0,
        max_spread: float = 20.0,
    ) -> None:
        super().__init__(manifold)
        if not (rho >= 0 and min(energy_lr, max_gap, max_spread) > 0):
            raise ValueError(
                "LatentEBM: rho >= 0 and positive energy_lr, max_gap and max_spread are needed, found "
                f"{rho}, {energy_lr}, {max_gap} and {max_spread}."
            )
        if posterior_init not in ("p0", "prior"):
            raise ValueError(f"LatentEBM: posterior_init is {posterior_init!r}, expected 'p0' or 'prior'.")
        network = partial(MLP, hidden=[64, 64], activation=SiLU)
        networks = energy or network, decoder or network
        self.law = LatentLaw(manifold, latent_dim, *networks, sigma_0, sigma, energy_bound)
        self.posterior_init = posterior_init
        self.prior_chain, self.posterior_chain = prior_chain, posterior_chain
        self.rho, self.noise, self.marginal, self.energy_lr = rho, noise, marginal, energy_lr
        self.max_gap, self.max_spread = max_gap, max_spread

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of each point, and what to watch.

        ``f_gap``, mean zero at the optimum; ``mse`` of the reconstruction, per coordinate, in units of x squared; the
        ``*_spread`` of z in units of sigma_0; the ``*_drift`` of the chains' last steps relative to their noise.
        """
        start = self.law.draw_reference(len(x), x)
        prior, prior_drift = self._prior(self.law, start)
        z, drift = self._posterior(self.law, x, self._first(x, start, prior))
        f_prior, f_post = self.law.tilt(prior), self.law.tilt(z)
        error, scale = squared_error(x, self.law.decode(z)), self.law.reference.scale
        return {
            "loss": f_prior - f_post + self.rho * (f_prior**2 + f_post**2) + error / (2 * self.law.sigma**2),
            "f_gap": f_post - f_prior,
            "mse": error / self.manifold.dim,
            "prior_spread": (prior.std(0, correction=0).mean() / scale).expand(len(x)),
            "posterior_spread": (z.std(0, correction=0).mean() / scale).expand(len(x)),
            "prior_drift": prior_drift,
            "posterior_drift": drift,
        }

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` points of the ends of prior chains."""
        start = self.law.draw_reference(n, self._like(), generator)
        return self._emit(self._prior(self.law, start, generator)[0], generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """An estimate of the log-density (see `ImportanceSampling`)."""

        def prior(law: LatentLaw, z: Tensor, generator: torch.Generator) -> Tensor:
            return self._prior(law, z, generator)[0]

        def posterior(law: LatentLaw, y: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
            return self._posterior(law, y, z, generator)[0]

        return self.marginal(self.law, prior, posterior, x)

    def latents(self, x: Tensor, seed: int | None = None) -> dict[str, Latents]:
        """As many draws of p_0, of the prior and, given x, of the posterior, and the points made of them."""
        generator, x = self.generator(seed), x.to(self._like())
        start = self.law.draw_reference(len(x), x, generator)
        end = self._prior(self.law, start, generator)[0]
        z = self._posterior(self.law, x, self._first(x, start, end, generator), generator)[0]
        laws = {"p_0": (start, False), "p_alpha": (end, False), "p(z|x)": (z, True)}
        return {name: Latents(z, self._emit(z, generator), given) for name, (z, given) in laws.items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The decoder, and the energy with a learning rate of its own."""
        law = self.law
        return [{"params": law.decoder.parameters()}, {"params": law.energy.parameters(), "lr": self.energy_lr}]

    def check(self, terms: dict[str, Tensor], step: int) -> None:
        """Stop where f or the latent variable explodes.

        Raises:
            DivergenceError: beyond ``max_gap`` or ``max_spread``
        """
        limits = {"f_gap": self.max_gap, "prior_spread": self.max_spread, "posterior_spread": self.max_spread}
        for name, limit in limits.items():
            if not abs(float(terms[name])) <= limit:
                raise DivergenceError(
                    f"LatentEBM diverges at step {step}: {name} is {float(terms[name]):.4g}, expected at "
                    f"most {limit:g}; lower energy_lr, raise rho, set energy_bound, or give the chains more steps."
                )

    def _prior(self, law: LatentLaw, z: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return self.prior_chain(law.latent, gradient_of(law.log_prior), z, generator)

    def _posterior(
        self, law: LatentLaw, x: Tensor, z: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.posterior_chain(law.latent, gradient_of(lambda y: law.log_joint(y, x)), z, generator)

    @torch.no_grad()
    def _first(self, x: Tensor, start: Tensor, end: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Where chains of p(z|x) start, of the starts and ends of prior chains."""
        return start if self.posterior_init == "p0" else self.law.resample(end, x, generator=generator)

    @torch.no_grad()
    def _emit(self, z: Tensor, generator: torch.Generator) -> Tensor:
        x = self.law.decode(z)
        return x + self.law.sigma * self.manifold.random_tangent(x, generator) if self.noise else x

    def _like(self) -> Tensor:
        return next(self.law.parameters())
