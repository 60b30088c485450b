"""Kernel densities whose widths, shapes and weights are learned from left-out points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.manifolds import Manifold
from rsgm.models.base import Weights
from rsgm.models.kernel_mixture import KernelLaw, KernelMixture
from rsgm.models.kernels import Kernels
from rsgm.models.neighbourhoods import LeftOut, Places
from rsgm.progress import visible
from rsgm.seeding import generator_from

#: the k of the distances to the k-th nearest place that the network sees
_SEEN = (1, 2, 4, 8, 16, 32)
#: of the logarithm of a width at most, up and down
_RANGE = 2.0


class _Neighbourhoods(NamedTuple):
    """Kernels before the network has changed them, and what the network sees of each centre.

    Fields:
        kernels: of n centres
        features: ``(n, features)``
    """

    kernels: Kernels
    features: Tensor

    def to(self, like: Tensor) -> _Neighbourhoods:
        return _Neighbourhoods(Kernels(*(part.to(like) for part in self.kernels)), self.features.to(like))


class NeuralKernelDensity(KernelMixture):
    r"""A mixture of kernels whose widths, shapes and weights are a small network's function of the neighbourhood.

    .. math:: q(x) = \frac{w_0}{\mathrm{vol}} + (1 - w_0) \sum_i \sum_f \pi_i \rho_{if}\,k(x; x_i, \Sigma_{if})

    The kernels are wrapped normal laws, exactly normalised, at the distinct training points :math:`x_i`, of a few
    families: the covariance of the k nearest places, the distance to the k-th one, and fixed widths. The network sees
    the logarithms of the distances to the nearest places, the local covariances, how far a place is from the middle of
    its neighbours, and how often it occurs; it changes the logarithms of the widths by at most 2 and gives the weights
    :math:`\pi_i` of the places and :math:`\rho_{if}` of the families.

    It is learned by maximum likelihood of left-out points: the places, or the points, are cut into folds, and a step
    scores as many points of one fold as the batch has under kernels at the places of the others, whose neighbours are
    of the others too. The points of the batch itself say nothing more.

    References: Abramson 1982, "On bandwidth variation in kernel estimates", Ann. Stat. 10; Silverman 1986, "Density
    estimation", sections 5.2 and 5.3; Vincent & Bengio 2003, "Manifold Parzen windows", NeurIPS.

    Arguments:
        manifold: where the points live; one that knows ``logmap`` and ``log_det_exp``
        shapes: numbers of nearest places whose covariance is a kernel's
        neighbours: the k of kernels as wide as the distance to the k-th nearest place
        widths: fixed widths, in units of length
        factor: on the standard deviations of the nearest places, and on distances to them
        min_width: the smallest standard deviation of a kernel, in units of length (on spheres, tori and SO(3) radians)
        max_width: the largest
        hidden: width of the network's two layers
        folds: number of parts of the places, or of the points, each left out in turn
        partitions: number of random partitions into folds
        leave_out: what a fold consists of, ``"places"``, ``"points"`` or a length: see `AdaptiveKernelDensity`

    Raises:
        ValueError: for arguments out of range

    Example:
        >>> from rsgm.manifolds import Torus
        >>> torus = Torus(2)
        >>> points = torus.random_uniform(60, *torus.shape, generator=torch.Generator().manual_seed(0))
        >>> model = NeuralKernelDensity(torus)
        >>> model.fit_points(points[:50], points[50:])
        >>> model.loss(points)["loss"].shape
        torch.Size([60])
    """

    def __init__(
        self,
        manifold: Manifold,
        shapes: Sequence[int] = (5, 12, 32),
        neighbours: Sequence[int] = (2,),
        widths: Sequence[float] = (2e-3, 6e-3),
        factor: float = 0.6,
        min_width: float = 3e-4,
        max_width: float = 0.5,
        hidden: int = 32,
        folds: int = 10,
        partitions: int = 2,
        leave_out: LeftOut = "places",
    ) -> None:
        super().__init__(manifold, min_width, max_width, leave_out)
        numbers = (*shapes, *neighbours, *widths)
        if not numbers or min(numbers) <= 0 or factor <= 0 or hidden < 1 or folds < 2 or partitions < 1:
            raise ValueError(
                "NeuralKernelDensity: shapes, neighbours or widths, all positive, factor > 0, hidden >= 1, folds >= 2 "
                f"and partitions >= 1 are needed, found {list(shapes)}, {list(neighbours)}, {list(widths)}, {factor}, "
                f"{hidden}, {folds} and {partitions}."
            )
        self.shapes, self.neighbours, self.widths = tuple(shapes), tuple(neighbours), tuple(widths)
        self.factor, self.folds, self.partitions = factor, folds, partitions
        dim, families = manifold.dim, len(numbers)
        seen = len(_SEEN) + len(shapes) * (dim + 1) + 1
        self.network = nn.Sequential(
            nn.Linear(seen, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, families * (dim + 1) + 1),
        )
        # the kernels start nearly as they are
        nn.init.normal_(self.network[-1].weight, std=1e-3)
        nn.init.zeros_(self.network[-1].bias)
        self.uniform_logit = nn.Parameter(torch.tensor(-4.0)) if math.isfinite(manifold.log_volume) else None
        sizes = {
            "centres": manifold.shape,
            "kernel_axes": (families, dim, dim),
            "kernel_widths": (families, dim),
            "features": (seen,),
        }
        for name, size in sizes.items():
            self.register_buffer(name, torch.empty(0, *size, dtype=torch.float64))
        self._left_out: list[tuple[_Neighbourhoods, Tensor, Tensor]] = []

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Find the places and their neighbours, of all and of each fold's complement; learning is by `loss`.

        Arguments:
            train: points whose places are the centres of the kernels
            val: not used: by their likelihood `rsgm train` chooses the step whose weights it keeps
            seed: of the folds
            weights: what each point of both counts
        """
        self.require_data(train, None, weights)
        train = self.manifold.projx(train.to(self.centres))
        most = max(*_SEEN, *self.shapes, *self.neighbours)
        # enough that those of a tenth can be left out
        with visible():
            places = Places.of(self.manifold, train, 2 * most + 16, None if weights is None else weights[0])
        every, n = self._neighbourhoods(places), len(places.points)
        if n < 2:
            raise ValueError("NeuralKernelDensity: folds of at least 2 distinct training points are needed, found 1.")
        mean, scale = every.features.mean(0), every.features.std(0).clamp_min(1e-3)
        self.centres, self.kernel_axes, self.kernel_widths = every.kernels
        self.features, self._left_out = (every.features - mean) / scale, []
        generator, like = generator_from("folds", seed), next(self.parameters())
        for _ in range(self.partitions):
            for points, count, rest in places.left_out(self.manifold, self.leave_out, self.folds, most, generator):
                own = self._neighbourhoods(rest)
                own = _Neighbourhoods(own.kernels, (own.features - mean) / scale).to(like)
                self._left_out.append((own, points.to(like), count.to(like)))

    @override
    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """Minus the log-densities of as many points of a random fold, under the kernels of the other folds."""
        if not self._left_out:  # which no checkpoint holds
            raise RuntimeError("NeuralKernelDensity has no points yet to leave out; call fit_points, or train it.")
        rest, points, count = self._left_out[int(torch.randint(len(self._left_out), ()))]
        points = points[torch.multinomial(count, len(x), replacement=True)]
        kernels, log_weights = self._modulated(rest)
        value = kernels.log_sum(self.manifold, points, log_weights)
        if self.uniform_logit is not None:
            uniform = nn.functional.logsigmoid(self.uniform_logit) - self.manifold.log_volume
            value = torch.logaddexp(value + nn.functional.logsigmoid(-self.uniform_logit), uniform)
        return {"loss": -value}

    @override
    def law(self) -> KernelLaw:
        self.require_fitted()
        with torch.no_grad():
            own = _Neighbourhoods(Kernels(self.centres, self.kernel_axes, self.kernel_widths), self.features)
            kernels, log_weights = self._modulated(own)
            uniform = torch.zeros_like(log_weights[0, 0])
            if self.uniform_logit is not None:
                uniform = self.uniform_logit.to(uniform).sigmoid()
            return KernelLaw(kernels, (1 - uniform) * log_weights.exp(), uniform)

    @override
    def parameter_groups(self) -> list[Any]:
        """The network's matrices, and what no decay of weights should pull to zero."""
        matrices = [p for p in self.parameters() if p.dim() > 1]
        others = [p for p in self.parameters() if p.dim() <= 1]
        return [{"params": matrices}, {"params": others, "weight_decay": 0.0}]

    def _modulated(self, own: _Neighbourhoods) -> tuple[Kernels, Tensor]:
        """The kernels as the network makes them, and the logarithms ``(n, F)`` of their weights."""
        families, dim = own.kernels.widths.shape[1:]
        out = self.network(own.features.to(next(self.parameters()))).to(own.features)
        change, family, place = out.split([families * dim, families, 1], -1)
        log_widths = own.kernels.widths.log() + _RANGE * torch.tanh(change.unflatten(-1, (families, dim)) / _RANGE)
        widths = log_widths.clamp(math.log(self.min_width), math.log(self.max_width)).exp()
        kernels = Kernels(own.kernels.centres, own.kernels.axes, widths)
        return kernels, family.log_softmax(1) + place.log_softmax(0)

    def _neighbourhoods(self, places: Places) -> _Neighbourhoods:
        n, dim = len(places.points), self.manifold.dim
        eye = torch.eye(dim).to(places.points).expand(n, dim, dim)
        near = places.distance.shape[1]
        reach = [places.reach(k, self.max_width).clamp_min(self.min_width) for k in _SEEN]
        features, axes, widths = [length.log() for length in reach], [], []
        for k in self.shapes:
            variances, principal = places.spread(k)
            # a share of the largest keeps kernels of few neighbours from being flat
            largest = variances[:, -1:].clamp_min(self.min_width**2)
            variances = variances.clamp_min(0) + 0.02 * largest
            middle = places.offset[:, :k].sum(1).norm(dim=-1) / max(1, min(k, near))
            features += [0.5 * largest[:, 0].log(), *(0.5 * (variances[:, :-1] / largest).log().T)]
            features.append(middle / largest[:, 0].sqrt())
            widths.append(self.factor * variances.sqrt())
            axes.append(principal)
        for k in self.neighbours:
            widths.append(self.factor * places.reach(k, self.max_width)[:, None].expand(n, dim))
        widths += [places.points.new_full((n, dim), width) for width in self.widths]
        axes += [eye] * (len(self.neighbours) + len(self.widths))
        stacked = torch.stack(widths, 1).clamp(self.min_width, self.max_width)
        kernels = Kernels(places.points, torch.stack(axes, 1), stacked)
        return _Neighbourhoods(kernels, torch.stack([*features, places.count.log()], 1))
