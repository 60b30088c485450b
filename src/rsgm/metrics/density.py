"""Numbers about a density: summaries, and its integral."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.manifolds import Manifold


def summary(
    values: Tensor, places: Tensor | None = None, weights: Tensor | None = None
) -> dict[str, float | int | None] | None:
    r"""Mean, standard error, median and counts; None where there are no values.

    Values of one place repeat one observation, so the standard error treats places as the independent ones: with
    weights w of sum W, each one without them, G places and :math:`D_g` the weighted sum of the deviations from the mean
    at a place, it is :math:`\tfrac1W \sqrt{\tfrac{G}{G - 1} \sum_g D_g^2}`, which is the standard deviation over
    :math:`\sqrt n` where all places are distinct and count the same; None for one place.

    References: Liang and Zeger 1986, Biometrika 73 (the cluster-robust variance).

    Arguments:
        values: (n,)
        places: (n,) labels of the places of the values; None where all are distinct
        weights: (n,) what each counts: two is the same as the value twice at its place, zero as no value; None where
            all count the same

    Raises:
        ValueError: where values are not finite

    Example:
        >>> round(summary(torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0, 0, 1, 1]))["standard_error"], 6)
        1.0
        >>> summary(torch.tensor([1.0, 3.0]), weights=torch.tensor([2.0, 2.0]))["mean"]
        2.0
    """
    if weights is not None:  # what counts nothing is no observation
        counts = weights > 0
        values, weights = values[counts.to(values.device)], weights[counts]
        places = None if places is None else places[counts.to(places.device)]
    n = len(values)
    if n == 0:
        return None
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{bad} of {n} log-densities are not finite, and have no mean; leave these rows out.")
    labels = torch.arange(n) if places is None else torch.unique(places.cpu(), return_inverse=True)[1]
    value = values.detach().cpu().double()
    weight = torch.ones_like(value) if weights is None else weights.detach().cpu().double()
    count, total = int(labels.max()) + 1, float(weight.sum())
    mean = float(values.mean()) if weights is None else float(weight @ value) / total
    deviations = torch.zeros(count, dtype=torch.float64).index_add_(0, labels, weight * (value - mean))
    error = float(deviations.norm()) * math.sqrt(count / (count - 1)) / total if count > 1 else None
    median = float(values.median() if weights is None else _median(value, weight))
    return {"mean": mean, "standard_error": error, "median": median, "n": n, "places": count}


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """The least value that, with those below, has half of the weight."""
    value, order = values.sort()
    share = weights[order].cumsum(0)
    return value[torch.searchsorted(share, 0.5 * share[-1])]


def density_ranks(log_density: Tensor, draws: Tensor) -> Tensor:
    r"""The share of a law's draws that are less likely than each point, :math:`P(p(X) < p(x))`, ``(n,)``, float64.

    It is the probability integral transform of the density: uniform over the points if they follow the law. Of draws as
    likely as the point, such as those of a flat density, half count.

    References: Dawid 1984, J. R. Stat. Soc. A 147; of densities of any dimension Hyndman 1996, Am. Stat. 50.

    Arguments:
        log_density: of the points, ``(n,)``, nats
        draws: log-densities of the draws, ``(m,)``

    Example:
        >>> density_ranks(torch.tensor([-1.0, 2.0]), draws=torch.tensor([-2.0, 0.0, 1.0, 1.5])).tolist()
        [0.25, 1.0]
    """
    values, own = log_density.detach().double().cpu(), draws.detach().double().cpu().sort().values
    below, upto = (torch.searchsorted(own, values, right=right) for right in (False, True))
    return (below + upto).double() / (2 * len(own))


def density_level(own: Tensor, coverage: float) -> tuple[float, float]:
    """The log-density that the share ``coverage`` of a law's draws exceed, and the standard error of that share.

    Arguments:
        own: log-densities of the draws, ``(n,)``
        coverage: in (0, 1)
    """
    if not 0 < coverage < 1:
        raise ValueError(f"A region of highest density covers a share between 0 and 1, found {coverage}.")
    return float(own.double().quantile(1 - coverage)), math.sqrt(coverage * (1 - coverage) / len(own))


def bits_per_dim(nll: Tensor, dim: int, levels: int) -> Tensor:
    r"""Bits per number of a picture, :math:`\mathrm{NLL} / (D \ln 2) + \log_2 K`.

    It is the cost of the K grey levels if the model's density on the unit cube is evaluated at :math:`(k + u) / K`, u
    uniform: an upper bound of the discrete code length. A uniform density costs :math:`\log_2 K`.

    References: Theis, van den Oord and Bethge 2016, arXiv:1511.01844, section 3.1.

    Arguments:
        nll: of the density on the unit cube, nats
        dim: D
        levels: K

    Example:
        >>> bits_per_dim(torch.zeros(1), dim=64, levels=256)
        tensor([8.])
    """
    return nll / (dim * math.log(2)) + math.log2(levels)


#: largest standard error of an integral that is reported as measured
LARGEST_ERROR = 0.02
#: and largest part of the value that it may be
_RELATIVE = 0.1


class Integral(NamedTuple):
    """The integral of a density, and where it was evaluated.

    Fields:
        value: the integral
        nodes: points ``(n, *shape)``
        log_density: there, nats
        standard_error: of importance sampling; for a quadrature, an estimate of its error
        method: how it was computed
        weights: volumes ``(n,)`` that the nodes of a quadrature stand for, the nodes of a cell beside one another
    """

    value: float
    nodes: Tensor
    log_density: Tensor
    standard_error: float
    method: str
    weights: Tensor | None = None

    @property
    def measured(self) -> bool:
        """Whether the error is small enough to report the value; it is not where the error is NaN.

        Nor is a mean of ratios whose error is not small beside it: where these are nearly all zero, as in hundreds of
        dimensions, both are, whatever the integral is.
        """
        largest = LARGEST_ERROR if self.weights is not None else min(LARGEST_ERROR, _RELATIVE * abs(self.value))
        return self.standard_error <= largest


def integral(
    log_density: Callable[[Tensor], Tensor],
    manifold: Manifold,
    known: tuple[Tensor, Tensor] | None = None,
    tolerance: float = 5e-4,
    width: float = 0.2,
    levels: int = 14,
    max_nodes: int = 1_000_000,
) -> Integral:
    """The integral of a density over a compact manifold, by adaptive Gauss-Legendre quadrature.

    The unit cube of a volume-preserving chart is cut into cells with two nodes along each axis, whose error is of
    the fourth order. A cell is halved along every axis while (largest density in it) x volume x (relative
    variation)^4 exceeds ``tolerance``. The density at ``known`` points shows peaks that are narrower than the first
    cells. The error is estimated by a fourth of the change of the integral when the mean over each cell is replaced by
    that over the cell of twice the size from which it was cut: as for a rule of the second order, which this is where
    the density is not smooth.

    Arguments:
        log_density: ``(n, *shape) -> (n,)``, nats
        manifold: compact, of dimension 1 to 3
        known: points ``(m, *shape)`` where the density may be sharp, e.g. draws of the law, and the log-density there
        tolerance: error indicator of a cell
        width: of the first cells, in units of length
        levels: most halvings
        max_nodes: most evaluations of the density; when they run short, the cells with the largest indicators are
            halved and the others are left as they are

    Example:
        >>> from rsgm.manifolds import Sphere
        >>> uniform = lambda x: torch.full((len(x),), -Sphere(2).log_volume)
        >>> round(integral(uniform, Sphere(2)).value, 6)
        1.0
    """
    dim, volume = manifold.dim, math.exp(manifold.log_volume)
    offsets = torch.tensor(list(itertools.product([-0.5, 0.5], repeat=dim)), dtype=torch.float64)

    def at(places: Tensor) -> tuple[Tensor, Tensor]:
        x = manifold.from_unit_cube(places.flatten(0, 1))
        return x, log_density(x).double().cpu()

    hints = (torch.empty(0), torch.empty(0)) if known is None else tuple(part.double().cpu() for part in known)
    counts = [math.ceil(extent / (2 * width)) for extent in manifold.unit_cube_extent]
    axes = [torch.arange(count, dtype=torch.float64).add(0.5) / count for count in counts]
    centres, size = torch.cartesian_prod(*axes).reshape(-1, dim), 1 / torch.tensor(counts, dtype=torch.float64)
    # Gauss-Legendre nodes lie at 1/sqrt(3) of the way from the centre to each side
    parent = at(centres[:, None] + offsets * (size / math.sqrt(3)))[1].exp().reshape(len(centres), -1).mean(1)
    spent = len(centres) * 2**dim
    split = torch.ones(len(centres), dtype=torch.bool)
    total, coarse, nodes, values, weights = 0.0, 0.0, [], [], []
    for level in range(levels + 1):
        centres, size = (centres[split, None] + offsets * (size / 2)).flatten(0, 1), size / 2
        parent = parent[split].repeat_interleave(2**dim)
        x, value = at(centres[:, None] + offsets * (size / math.sqrt(3)))
        density = value.exp().reshape(len(centres), -1)
        cell = volume * float(size.prod())
        corners = manifold.from_unit_cube(centres[:, None] + offsets * size)
        highest = torch.maximum(density.amax(1), _highest(manifold, corners, manifold.from_unit_cube(centres), *hints))
        variation = 1 - density.amin(1) / highest.clamp_min(1e-300)
        indicator = highest * cell * variation**4
        split = indicator > tolerance
        spent += len(x)
        affordable = max(0, max_nodes - spent) // 4**dim if level < levels else 0
        if affordable < int(split.sum()):
            worst = indicator.topk(affordable).indices
            split = torch.zeros_like(split).index_fill(0, worst, True)
        mean = density.mean(1)
        total += float(mean[~split].sum()) * cell
        coarse += float(parent[~split].sum()) * cell
        keep = ~split[:, None].expand_as(density).flatten()
        nodes.append(x[keep])
        values.append(value[keep])
        weights.append(torch.full_like(values[-1], cell / 2**dim))
        if not bool(split.any()):
            break
        parent = mean
    error = abs(total - coarse) / 4
    return Integral(total, torch.cat(nodes), torch.cat(values), error, "quadrature", torch.cat(weights))


def guided_integral(log_density: Callable[[Tensor], Tensor], guide: Integral, dim: int) -> Integral:
    r"""The integral of a density by the quadrature of a similar one, g, whose integral is one.

    .. math:: Z = 1 + \sum_i w_i\,(p(x_i) - g(x_i))

    The error is that of the quadrature of the difference. It is estimated, from the nodes of each cell, by the part of
    the difference that is odd along every axis: as large as the error of independent draws where the difference is
    rough, small where it is smooth.

    Arguments:
        log_density: ``(n, *shape) -> (n,)``, nats
        guide: the quadrature of g
        dim: of the manifold
    """
    value = log_density(guide.nodes).double().cpu()
    difference = (guide.weights * (value.exp() - guide.log_density.exp())).reshape(-1, 2**dim)
    odd = torch.tensor([math.prod(signs) for signs in itertools.product([-1.0, 1.0], repeat=dim)], dtype=torch.float64)
    error = float((difference @ odd).norm())
    total = 1 + float(difference.sum())
    return Integral(total, guide.nodes, value, error, "guided quadrature", guide.weights)


def sampled_integral(
    nodes: Tensor, log_density: Tensor, log_proposal: Tensor, controls: Tensor | None = None
) -> Integral:
    r"""The integral of a density by importance sampling, :math:`\tfrac1n \sum_i p(x_i) / q(x_i)`.

    Densities :math:`g_k` whose integral is one are control variates: p minus the combination of them that fits it best
    is what is sampled. The combination comes from the same draws; the bias is of the order of K / n standard errors.

    References: Owen and Zhou 2000, "Safe and effective importance sampling", J. Am. Stat. Assoc. 95.

    Arguments:
        nodes: draws of the proposal q, ``(n, *shape)``; its density must be bounded away from zero, as that of a
            mixture with the uniform law is
        log_density: ``log p`` there, ``(n,)``, nats
        log_proposal: ``log q`` there, ``(n,)``, nats
        controls: the ratios :math:`g_k / q` there, ``(n, K)``, which must be bounded, as those of parts of a mixture
            q are; not used for fewer than 10 nodes to each

    Example:
        >>> sampled_integral(torch.zeros(9, 1), torch.full((9,), -1.0), torch.full((9,), -1.0)).value
        1.0
    """
    value = log_density.double().cpu()
    ratio = (value - log_proposal.double().cpu()).exp()
    if controls is not None and len(ratio) >= 10 * controls.shape[1] and bool(ratio.isfinite().all()):
        excess = controls.double().cpu() - 1
        deviation = (excess - excess.mean(0), (ratio - ratio.mean())[:, None])
        # some may be all but equal to others
        ratio = ratio - (excess @ torch.linalg.lstsq(*deviation, rcond=1e-6, driver="gelsd").solution)[:, 0]
    return Integral(float(ratio.mean()), nodes, value, float(ratio.std() / len(ratio) ** 0.5), "importance sampling")


def _highest(manifold: Manifold, corners: Tensor, centres: Tensor, points: Tensor, log_density: Tensor) -> Tensor:
    """The largest of the known densities in or next to each cell, by distance: charts are singular at their poles."""
    found = torch.zeros(len(centres), dtype=torch.float64)
    if not len(points):
        return found
    density = log_density.exp()
    radius = manifold.dist(corners, centres[:, None]).amax(1)
    rows = max(1, 2**20 // len(density))
    for k in range(0, len(centres), rows):
        near = manifold.dist(centres[k : k + rows, None], points) <= 1.5 * radius[k : k + rows, None]
        found[k : k + rows] = torch.where(near, density, 0.0).amax(1)
    return found
