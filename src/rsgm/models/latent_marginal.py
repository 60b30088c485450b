"""The marginal density of a law with a latent variable, by importance sampling."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rsgm.likelihood import LogProb, SolveError
from rsgm.models.latent_law import LatentLaw
from rsgm.progress import bar
from rsgm.samplers import gradient_of

#: numbers of the largest temporary tensor
_CHUNK = 2**22
#: ends of prior chains
_POOL = 1024


#: the ends of chains of p_α ``(law, z, generator)`` and of p(z|x) ``(law, x, z, generator)`` that start at z
PriorChain = Callable[[LatentLaw, Tensor, torch.Generator], Tensor]
PosteriorChain = Callable[[LatentLaw, Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class ImportanceSampling:
    r"""The marginal log-density of a `LatentLaw`.

    .. math:: \log p(x) = \log\int e^{f_\alpha(z)}\,p_0(z)\,p_\beta(x|z)\,dz - \log Z_\alpha

    Both integrals are averages of importance weights. The proposal of the first is, for each x, a mixture of p_0 and
    of normal laws around the ends of chains of p(z|x), moved towards their modes by Gauss-Newton steps, with the
    precision there (`LatentLaw.precision`); that of :math:`Z_\alpha` a mixture in equal parts of p_0 and of the normal
    law with the moments of prior chains. The chains of p(z|x) start at ends of prior chains, drawn in proportion to
    :math:`p_\beta(x|z)`, which finds the modes of a posterior that has several; where the end of a chain is less likely
    than its start, as it is where the steps are too long for the posterior, the start is kept. With p_0 in the proposal
    (a defensive mixture) the weights are bounded wherever :math:`e^f p_\beta(x|z)` is; each part has its share of the
    draws.

    Both averages are unbiased and consistent, their logarithms are biased downwards by half of the relative variance
    :math:`v/n` of an average of n weights, and have the standard error :math:`\sqrt{v/n}`. So the result is below
    log p(x) in the mean, but for the error of :math:`\log Z_\alpha`, which is one for all points: it is an estimate,
    not a bound. The effective number of draws, :math:`(\sum w)^2 / \sum w^2`, stands beside it: where it is a few, the
    estimate is not to be trusted. Everything is in float64, and a function of the seed and of the points.

    References: Owen and Zhou 2000, J. Am. Stat. Assoc. 95 (defensive mixtures, deterministic shares); Burda, Grosse and
    Salakhutdinov 2016, arXiv:1509.00519 (the bias).

    Arguments:
        draws: of z for each point
        modes: number of chains, and of normal laws, for each point
        refinements: Gauss-Newton steps
        defensive: share of the draws that are of p_0
        prior_draws: of z for :math:`Z_\alpha`
        seed: of all draws, equal for every call

    Raises:
        ValueError: for numbers out of range
        SolveError: from a call, where prior chains, or derivatives of the decoder, leave the range of numbers
    """

    draws: int = 256
    modes: int = 8
    refinements: int = 3
    defensive: float = 0.5
    prior_draws: int = 2**15
    seed: int = 0

    def __post_init__(self) -> None:
        counts = min(self.modes, self.prior_draws) >= 1 and self.refinements >= 0 and self.draws > self.modes
        if not (counts and 0 < self.defensive < 1):
            raise ValueError(
                "ImportanceSampling: 0 < defensive < 1, modes and prior_draws >= 1, refinements >= 0 and draws > modes "
                f"are needed, found {self.defensive}, {self.modes}, {self.prior_draws}, {self.refinements} and "
                f"{self.draws}."
            )

    def __call__(self, law: LatentLaw, prior: PriorChain, posterior: PosteriorChain, x: Tensor) -> LogProb:
        """The estimate at ``x`` ``(B, *shape)``, nats, with its effective draws; ``nfe`` counts evaluations of g."""
        # derivatives with respect to z do not exist in inference mode
        with torch.inference_mode(False), torch.no_grad():
            law, x = copy.deepcopy(law).double().eval(), x.clone().double()
            generator = torch.Generator(x.device).manual_seed(self.seed)
            pool = prior(law, law.draw_reference(_POOL, x, generator), generator)
            if not bool(torch.isfinite(pool).all()):
                raise SolveError(
                    "The prior's chains leave the range of numbers; lower the step of prior_chain, or energy_lr."
                )
            (normaliser, _), found = self._normaliser(law, pool, generator), []
            with bar("log-densities", len(x)) as shown:
                for part in x.split(max(1, _CHUNK // (self.draws * max(64, law.manifold.dim)))):
                    many, start = part.repeat(self.modes, 1), law.resample(pool, part, self.modes, generator)
                    end = posterior(law, many, start, generator)
                    # of an end that is not finite the comparison is false
                    better = law.log_joint(end, many) >= law.log_joint(start, many)
                    z = torch.where(better[:, None], end, start)
                    found.append(self._marginal(law, part, z, generator))
                    shown.update(len(part))
        values, draws = (torch.cat(parts) for parts in zip(*found, strict=True))
        return LogProb(values - normaliser, float(self.draws), exact=False, draws=draws, solver=self.settings())

    def settings(self) -> dict[str, Any]:
        """Method, draws and dtype."""
        return {"method": "importance sampling", "draws": self.draws, "dtype": "float64"}

    def _normaliser(self, law: LatentLaw, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``log Z_α``, ``(1,)``, given draws of about p_α, and its effective draws."""
        deviation = z - z.mean(0)
        covariance = deviation.T @ deviation / len(z)
        factor = _factor(torch.linalg.inv_ex(covariance).inverse)
        half = (self.prior_draws + 1) // 2
        return log_integral(law, law.log_prior, z.mean(0)[None, None], factor[None, None], (half, half), generator)

    def _marginal(self, law: LatentLaw, x: Tensor, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``log p(x) + log Z_α`` of points ``(B, *shape)`` and the effective draws, given ends of chains
        ``(modes * B, latent_dim)``."""
        many = x.repeat(self.modes, 1)
        gradient = gradient_of(lambda y: law.log_joint(y, many))
        factor = _factor(law.precision(z))
        for _ in range(self.refinements):
            there = z + torch.cholesky_solve(gradient(z)[..., None], factor)[..., 0]
            better = law.log_joint(there, many) > law.log_joint(z, many)
            z = torch.where(better[:, None], there, z)
            factor = _factor(law.precision(z))
        centres, factors = (part.unflatten(0, (self.modes, len(x))) for part in (z, factor))
        local = max(1, round(self.draws * (1 - self.defensive) / self.modes))
        defensive = max(1, self.draws - local * self.modes)

        def log_density(y: Tensor) -> Tensor:
            return law.log_joint(y, x.repeat(len(y) // len(x), 1))

        return log_integral(law, log_density, centres, factors, (defensive, local), generator)


def log_integral(
    law: LatentLaw,
    log_density: Callable[[Tensor], Tensor],
    centres: Tensor,
    factors: Tensor,
    counts: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    r"""``log ∫ exp(log_density)`` over the latent space, for each of B integrands, ``(B,)``, and the effective draws.

    Arguments:
        law: whose p_0 is a part of the proposal
        log_density: ``(k * B, latent_dim) -> (k * B,)``, for k draws of each integrand, the integrand varying fastest
        centres: means ``(C, B, latent_dim)`` of the normal laws
        factors: R ``(C, B, latent_dim, latent_dim)``, lower triangular, where their precisions are :math:`R R^\top`
        counts: draws of p_0, and of each normal law
        generator: of the draws
    """
    (modes, size, dim), (defensive, local) = centres.shape, counts
    total = defensive + modes * local
    noise = centres.new_empty(modes, dim, local * size).normal_(generator=generator)
    noise = noise.reshape(modes, dim, local, size).permute(0, 3, 1, 2)
    near = torch.linalg.solve_triangular(factors.mT, noise, upper=True).permute(0, 3, 1, 2) + centres[:, None]
    anywhere = law.draw_reference(defensive * size, centres, generator).reshape(defensive, size, dim)
    z = torch.cat([anywhere, near.flatten(0, 1)])
    parts = [law.reference.log_prob(z) + math.log(defensive / total)]
    for centre, factor in zip(centres, factors, strict=True):
        square = torch.einsum("sbi,bij->sbj", z - centre, factor).square().sum(-1)
        peak = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * dim * math.log(2 * math.pi)
        parts.append(peak - 0.5 * square + math.log(local / total))
    weight = log_density(z.flatten(0, 1)).unflatten(0, z.shape[:2]) - torch.stack(parts).logsumexp(0)
    whole = weight.logsumexp(0)
    return whole - math.log(total), (2 * whole - (2 * weight).logsumexp(0)).exp()


def _factor(precision: Tensor) -> Tensor:
    r"""The lower triangular R of :math:`R R^\top`, for each of many matrices."""
    factor, failed = torch.linalg.cholesky_ex(precision)
    bad = (failed != 0) | ~torch.isfinite(factor).all(-1).all(-1)
    if bad.any():
        raise SolveError(
            f"The precision of z is singular or out of the range of numbers at {int(bad.sum())} of {bad.numel()} "
            "places: the decoder is too steep there, or the chains have collapsed or run away. Lower the steps of the "
            "chains, or the learning rates."
        )
    return factor
