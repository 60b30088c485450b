"""Distances of samples from a known law, each beside the value that draws of the law itself reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsgm.distributions import EuclideanLaw
from rsgm.progress import each
from rsgm.seeding import generator_from

#: lengths of the kernels of `squared_mmd`, in units of the data
BANDWIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0)
#: log-densities count as at least this many nats, so that one far sample does not decide a mean
_FLOOR = -60.0


def sliced_wasserstein(x: Tensor, y: Tensor, power: int = 2, directions: int = 500) -> float:
    r"""The sliced Wasserstein distance, :math:`(E_\theta W_p(\theta \cdot X, \theta \cdot Y)^p)^{1/p}`.

    The directions :math:`\theta` are uniform and the same at every call. On a line :math:`W_p` pairs the sorted points.

    References: Bonneel et al. 2015, J. Math. Imaging Vision 51, section 3.

    Arguments:
        x, y: equally many points ``(n, d)``
        power: p
        directions: their number
    """
    if x.shape != y.shape:
        raise ValueError(f"sliced_wasserstein: expected equally many points, found {tuple(x.shape)}, {tuple(y.shape)}.")
    theta = torch.randn(x.shape[1], directions, generator=generator_from("directions"), dtype=torch.float64).to(x)
    theta = theta / theta.norm(dim=0)
    # numpy sorts ten times as fast as torch
    gap = np.subtract(*(np.sort((theta.T @ points.T).cpu().numpy(), axis=1) for points in (x, y)))
    return float((np.abs(gap) ** power).mean() ** (1 / power))


def energy_distance(x: Tensor, y: Tensor) -> float:
    r"""The energy distance :math:`2E|X-Y| - E|X-X'| - E|Y-Y'|`, unbiased: about zero, of either sign, for one law.

    References: Székely and Rizzo 2013, J. Stat. Plan. Inference 143.

    Arguments:
        x, y: points ``(n, d)``, ``(m, d)``, at least two of each
    """
    return -_discrepancy(x, y, lambda distance: distance)


def squared_mmd(x: Tensor, y: Tensor) -> float:
    r"""The squared maximum mean discrepancy of the kernels :math:`\exp(-|x-y|^2 / 2\ell^2)`, the mean over ℓ.

    Unbiased: about zero, of either sign, for one law. The lengths ℓ are `BANDWIDTHS`.

    References: Gretton et al. 2012, JMLR 13, equation 3.

    Arguments:
        x, y: points ``(n, d)``, ``(m, d)``, at least two of each
    """

    def kernel(distance: Tensor) -> Tensor:
        square = distance.square()
        return sum(torch.exp(-square / (2 * length**2)) for length in BANDWIDTHS) / len(BANDWIDTHS)

    return _discrepancy(x, y, kernel)


def _discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    """E k(X, X') + E k(Y, Y') - 2 E k(X, Y), over distinct points."""
    if min(len(x), len(y)) < 2:
        raise ValueError(f"At least two points of each law are needed, found {len(x)} and {len(y)}.")

    def total(a: Tensor, b: Tensor) -> float:
        # parts that stay in a processor's cache are several times as fast
        parts = a.split(max(1, 2**15 // len(b)))
        return float(
            sum(kernel(torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist")).sum() for part in parts)
        )

    def within(a: Tensor) -> float:
        return (total(a, a) - len(a) * float(kernel(a.new_zeros(())))) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))


def energy_gaps(x: Tensor, law: EuclideanLaw) -> tuple[float, float]:
    r"""The mean and the median of :math:`-\log p` over samples, minus the entropy of p, nats.

    The mean is zero for the law itself, positive where samples lie off it, and negative where they crowd its peaks.
    Log-densities count as at least -60.
    """
    surprise = -law.log_prob(x).clamp_min(_FLOOR) - law.entropy().to(x.device)
    return float(surprise.mean()), float(surprise.median())


def mode_shares(x: Tensor, law: EuclideanLaw) -> Tensor:
    """The share ``(K,)`` of the samples that belongs to each mode of a law that has `EuclideanLaw.mode_weights`."""
    return torch.bincount(law.modes(x), minlength=len(law.mode_weights)).double() / len(x)


def compare(x: Tensor, law: EuclideanLaw, references: int = 5) -> dict[str, Any]:
    """Every metric of samples against a law, beside what draws of the law reach.

    The law is drawn ``references`` times, n points each, from fixed generators. A metric of two samples is averaged
    over the draws; its floor is the mean over pairs of draws. The other metrics need no second sample; their floor is
    the mean over draws. ``floor_sd`` is the standard deviation of one pair or draw: by so much a perfect model's value
    would scatter.

    Arguments:
        x: samples ``(n, d)``, n at least 2
        law: what they should be drawn from
        references: draws of the law, at least 2

    Returns:
        ``n``, ``references``, ``entropy`` and for each metric ``{value, floor, floor_sd}``, lists for mode weights

    Raises:
        ValueError: samples that are not finite
    """
    x = x.detach().double().cpu()
    n = len(x)
    bad = int((~torch.isfinite(x)).any(1).sum())
    if bad:
        raise ValueError(f"{bad} of {n} samples are not finite.")
    draws = [law.draw(n, generator_from("reference", k)) for k in range(references)]
    result: dict[str, Any] = {"n": n, "references": references, "entropy": float(law.entropy())}
    pairs = list(zip(draws, [*draws[1:], draws[0]], strict=True))
    two_sample: dict[str, Callable[[Tensor, Tensor], float]] = {
        "sliced_w2": lambda a, b: sliced_wasserstein(a, b, 2),
        "sliced_w1": lambda a, b: sliced_wasserstein(a, b, 1),
        "energy_distance": energy_distance,
        "squared_mmd": squared_mmd,
    }
    for name, metric in each(two_sample.items(), len(two_sample), "samples against the law", "metrics"):
        value = sum(metric(x, draw) for draw in draws) / references
        result[name] = _row(value, [metric(a, b) for a, b in pairs])
    floors = zip(*(energy_gaps(draw, law) for draw in draws), strict=True)
    for name, value, floor in zip(("energy_gap", "median_gap"), energy_gaps(x, law), floors, strict=True):
        result[name] = _row(value, floor)
    if law.mode_weights is not None:
        weights = law.mode_weights
        result["mode_weights"] = {
            "value": mode_shares(x, law).tolist(),
            "floor": weights.tolist(),
            "floor_sd": (weights * (1 - weights) / n).sqrt().tolist(),
        }
    return result


def _row(value: float, floor: list[float] | tuple[float, ...]) -> dict[str, float]:
    floors = torch.tensor(floor, dtype=torch.float64)
    return {"value": value, "floor": float(floors.mean()), "floor_sd": float(floors.std())}
