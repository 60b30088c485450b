"""The baseline: a mixture of Kent laws, fitted by expectation-maximisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from rsgm.distributions import Kent, Mixture, fit_kent
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.models.base import GenerativeModel, Weights
from rsgm.progress import bar, visible
from rsgm.seeding import seed_from


class KentMixture(GenerativeModel):
    r"""A mixture of elliptical bumps on S², :math:`p(x) = \sum_k w_k\,\mathrm{Kent}(x; \Gamma_k, \kappa_k, \beta_k)`.

    Fitted by EM with the exact likelihood: the M-step starts from moments and never lowers the likelihood. Of several
    starts, drawn by k-means++ with the seed of the run, the best on the validation points is kept. With repeated points
    in the data ``min_width`` decides the likelihood: always state it.

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

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """EM on the training points from each start; the validation points choose."""
        self.require_data(train, val, weights)
        train, val = (self.manifold.projx(x.to(self.frames)) for x in (train, val))
        # one in the mean: a component must not stand for less than a point
        counts = [] if weights is None else [weights[0].to(train) / weights[0].to(train).mean()]
        val_count = torch.ones_like(val[:, 0]) if weights is None else weights[1].to(val)
        best = -math.inf
        with visible(), bar("Kent mixture", self.restarts, "starts") as shown:
            for restart in range(self.restarts):
                generator = torch.Generator(train.device).manual_seed(seed_from("kent", seed, restart))
                law = self._fit(train, generator, shown, *counts)
                score = float(val_count @ law.log_prob(val)) / float(val_count.sum())
                if score > best or not restart:
                    best, parts = score, law.components
                    self.weights, self.frames = law.weights.clone(), parts.frame.clone()
                    self.concentrations, self.ovalnesses = parts.concentration.clone(), parts.ovalness.clone()

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """A component, then a draw from it."""
        return self._law().draw(n, generator).float()

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The mixture density, in float64."""
        # narrow laws tell a point on the sphere from one a little off it
        x = self.manifold.projx(x.to(self.frames))
        return LogProb(self._law().log_prob(x), 0.0)

    @override
    def resolution(self) -> float:
        return self.min_width

    @property
    @override
    def fitted(self) -> bool:
        return bool(self.weights.any())

    def _fit(self, x: Tensor, generator: torch.Generator, shown: tqdm, count: Tensor | None = None) -> Mixture:
        """One run of EM, which moves a bar by one."""
        count = torch.ones_like(x[:, 0]) if count is None else count
        share = _start(x, count, self.components, generator)
        eye = torch.eye(3, dtype=x.dtype, device=x.device).expand(self.components, 3, 3)
        parts = Kent(eye, x.new_ones(self.components), x.new_zeros(self.components))
        last = -math.inf
        for iteration in range(self.iterations):
            # a split may lower the likelihood: none in the second half
            if 2 * iteration < self.iterations:
                share = _refill(share, x, generator)
            parts = fit_kent(parts, x, share, self.min_width**-2)
            law = _mixture(parts, share.mean(0))
            joint = law.joint_log_prob(x)
            share, value = joint.softmax(1) * count[:, None], float((count * joint.logsumexp(1)).mean())
            if value - last < self.tolerance and (share.sum(0) >= 1).all():
                break
            last = value
            shown.update(1 / self.iterations)
        shown.update(1 - iteration / self.iterations)
        return law

    def _law(self) -> Mixture:
        self.require_fitted()
        return _mixture(Kent(self.frames, self.concentrations, self.ovalnesses), self.weights)


def _mixture(components: Kent, weights: Tensor) -> Mixture:
    """The law, in which a component that has lost all of its points keeps the least weight there is."""
    return Mixture(components, weights.clamp_min(torch.finfo(weights.dtype).tiny))


def _start(x: Tensor, count: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """Each point, as often as it counts, to the nearest of centres drawn far from one another, as shares ``(N, K)``.

    References: Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding", SODA.
    """
    seed = int(torch.randint(2**31, (1,), generator=generator, device=x.device))
    # with fewer points than components the others start empty
    from sklearn.cluster import kmeans_plusplus  # half a second, which no other command should take

    _, index = kmeans_plusplus(
        x.cpu().numpy(), min(components, len(x)), sample_weight=count.cpu().numpy(), random_state=seed
    )
    nearest = torch.cdist(x, x[torch.as_tensor(index, device=x.device)]).argmin(1)
    return torch.nn.functional.one_hot(nearest, components).to(x) * count[:, None]


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
