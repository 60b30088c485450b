"""The baseline: a mixture of Kent laws, fitted by expectation-maximisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from rsgm.distributions import Kent, fit_kent
from rsgm.distributions.combined import choose
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.models.base import GenerativeModel
from rsgm.progress import bar, visible
from rsgm.seeding import seed_from


class KentMixture(GenerativeModel):
    r"""A mixture of elliptical bumps on S², :math:`p(x) = \sum_k w_k\,\mathrm{Kent}(x; \Gamma_k, \kappa_k, \beta_k)`.

    Fitted by EM with the exact likelihood: the M-step starts from moments and never lowers the likelihood. Of several
    starts, drawn with the seed of the run, the best on the validation points is kept. With repeated points in the
    data ``min_width`` decides the likelihood: always state it.

    References: Kent 1982, J. R. Stat. Soc. B 44; Peel, Whiten and McLachlan 2001, J. Am. Stat. Assoc. 96.

    Arguments:
        manifold: the sphere S²
        components: number of laws
        restarts: number of starts
        iterations: of EM, at most
        min_width: smallest standard deviation of a component, radians
        tolerance: gain of the mean log-likelihood in an iteration that ends EM

    Raises:
        ValueError: for another manifold, and for arguments out of range
    """

    def __init__(
        self,
        manifold: Manifold,
        components: int = 10,
        restarts: int = 5,
        iterations: int = 200,
        min_width: float = 1e-2,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(manifold)
        if manifold.dim != 2 or manifold.shape != (3,) or math.isinf(manifold.log_volume):
            raise ValueError(f"KentMixture: the Kent law lives on Sphere(2), found {manifold}.")
        if min(components, restarts, iterations) < 1 or not 0 < min_width < 1:
            raise ValueError(
                "KentMixture: components, restarts and iterations >= 1 and 0 < min_width < 1 are needed, found "
                f"{components}, {restarts}, {iterations} and {min_width}."
            )
        self.components, self.restarts, self.iterations = components, restarts, iterations
        self.min_width, self.tolerance = min_width, tolerance
        for name, shape in {"weights": (), "frames": (3, 3), "concentrations": (), "ovalnesses": ()}.items():
            self.register_buffer(name, torch.zeros(components, *shape, dtype=torch.float64))

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0) -> None:
        """EM on the training points from each start; the validation points choose."""
        train, val = (self.manifold.projx(x.double()) for x in (train, val))
        best = -math.inf
        with visible(), bar("Kent mixture", self.restarts, "starts") as shown:
            for restart in range(self.restarts):
                generator = torch.Generator(train.device).manual_seed(seed_from("kent", seed, restart))
                law, weights = self._fit(train, generator, shown)
                score = float(_log_parts(law, weights, val).logsumexp(1).mean())
                if score > best or not restart:
                    best = score
                    self.weights, self.frames = weights, law.frame.clone()
                    self.concentrations, self.ovalnesses = law.concentration.clone(), law.ovalness.clone()

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """A component, then a draw from it."""
        law = self._law()
        index = choose(self.weights, n, generator)
        chosen = Kent(law.frame[index], law.concentration[index], law.ovalness[index])
        return chosen.draw(1, generator)[0].float()

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The mixture density, in float64."""
        # narrow laws tell a point on the sphere from one a little off it
        x = self.manifold.projx(x.to(self.frames))
        return LogProb(_log_parts(self._law(), self.weights, x).logsumexp(1), 0.0)

    def resolution(self) -> float:
        """The smallest width."""
        return self.min_width

    def _fit(self, x: Tensor, generator: torch.Generator, shown: tqdm) -> tuple[Kent, Tensor]:
        """One run of EM, which moves a bar by one."""
        share = _start(x, self.components, generator)
        eye = torch.eye(3, dtype=x.dtype, device=x.device).expand(self.components, 3, 3)
        law = Kent(eye, x.new_ones(self.components), x.new_zeros(self.components))
        last = -math.inf
        for iteration in range(self.iterations):
            # a split may lower the likelihood: none in the second half
            if 2 * iteration < self.iterations:
                share = _refill(share, x, generator)
            law, weights = fit_kent(law, x, share, self.min_width**-2), share.mean(0)
            parts = _log_parts(law, weights, x)
            share, value = parts.softmax(1), float(parts.logsumexp(1).mean())
            if value - last < self.tolerance and (share.sum(0) >= 1).all():
                break
            last = value
            shown.update(1 / self.iterations)
        shown.update(1 - iteration / self.iterations)
        return law, weights

    def _law(self) -> Kent:
        if not bool(self.weights.any()):
            raise RuntimeError("KentMixture is not fitted yet; call fit_points, or train it.")
        return Kent(self.frames, self.concentrations, self.ovalnesses)


def _log_parts(law: Kent, weights: Tensor, x: Tensor) -> Tensor:
    """Logarithms of the weighted densities of the components, ``(B, K)``."""
    return law.log_prob(x[:, None]) + weights.log()


def _start(x: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """Each point to the nearest of centres drawn far from one another (k-means++), as shares ``(N, K)``."""
    index = torch.randint(len(x), (1,), generator=generator, device=x.device)
    square = (x - x[index]).square().sum(-1, keepdim=True)
    for _ in range(components - 1):
        # the least distance, but where all the points are centres already
        index = torch.multinomial(square.amin(1) + 1e-12, 1, generator=generator)
        square = torch.cat([square, (x - x[index]).square().sum(-1, keepdim=True)], 1)
    return torch.nn.functional.one_hot(square.argmin(1), components).to(x)


def _refill(share: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Give each component of less than one point half of the largest, cut by a random plane through its mean."""
    for empty in (share.sum(0) < 1).nonzero()[:, 0].tolist():
        large = int(share.sum(0).argmax())
        mean = share[:, large] @ x / share[:, large].sum()
        normal = torch.randn(3, generator=generator, dtype=x.dtype, device=x.device)
        side = ((x - mean) @ normal > 0).to(x)
        share = share.clone()
        share[:, empty] += share[:, large] * side
        share[:, large] *= 1 - side
    return share
