"""Maximum likelihood for Kent laws: one ascent step of a weighted log-likelihood."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rsgm.distributions.kent import Kent, moments, quadrature

#: smallest κ - 2β of a fitted law, where it is all but flat
_FLAT = 1e-6


def fit_kent(start: Kent, points: Tensor, weights: Tensor, max_precision: float, steps: int = 1) -> Kent:
    r"""Raise the weighted log-likelihood :math:`\sum_i r_{ik} \log p_k(x_i)` of each of K laws; it never falls.

    From a start without ovalness the frame is the moment estimate. The concentration and the ovalness start from the
    better of the previous ones and Kent's moment estimate for narrow laws.

    References: Kent 1982, J. R. Stat. Soc. B 44, section 4.

    Arguments:
        start: laws ``(K,)``
        points: ``(N, 3)``
        weights: r, ``(N, K)``, not negative
        max_precision: largest κ ± 2β, the inverse of the smallest variance
        steps: of the iterations for the frame, and for the concentration and the ovalness

    Returns:
        laws ``(K,)`` in float64
    """
    x = points.double()
    weights = weights.double() / weights.double().sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    mean, second = weights.T @ x, torch.einsum("nk,ni,nj->kij", weights, x, x)
    kappa, beta = start.concentration.double(), start.ovalness.double()
    frame = start.frame.double()
    for _ in range(steps):
        frame = _turn(frame, kappa, beta, mean, second)
    away = 1 - (frame[..., 0] * mean).sum(-1)
    along = torch.einsum("kia,kij,kja->ka", frame, second, frame)
    ascent = _Precisions(away, along[:, 1] - along[:, 2], max_precision)
    logs = ascent.better(ascent.moment_estimate(), torch.stack([kappa - 2 * beta, kappa + 2 * beta], -1).log())
    for _ in range(steps):
        logs = ascent.step(logs)
    return Kent(frame, *_natural(logs))


def _turn(frame: Tensor, kappa: Tensor, beta: Tensor, mean: Tensor, second: Tensor) -> Tensor:
    r"""A better frame for fixed κ and β.

    The objective :math:`\kappa\,\gamma_1 m + \beta\,\gamma_2 S \gamma_2 + \beta\,\gamma_3 (I - S) \gamma_3` is convex
    in the frame, so the orthogonal matrix closest to its gradient raises it (Procrustes); then the last two axes in
    closed form, by turning them about the first.
    """
    _, g2, g3 = frame.unbind(-1)
    apply = lambda v: torch.einsum("kij,kj->ki", second, v)  # noqa: E731
    gradient = [kappa[:, None] * mean, 2 * beta[:, None] * apply(g2), 2 * beta[:, None] * (g3 - apply(g3))]
    u, _, vh = torch.linalg.svd(torch.stack(gradient, -1))
    g1, g2, g3 = (u @ vh).unbind(-1)
    s2, s3 = apply(g2), apply(g3)
    angle = 0.5 * torch.atan2(2 * (g3 * s2).sum(-1), (g2 * s2 - g3 * s3).sum(-1))
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([g1, cos * g2 + sin * g3, cos * g3 - sin * g2], -1)


def _natural(logs: Tensor) -> tuple[Tensor, Tensor]:
    """κ and β from the logarithms of the precisions ``a = κ - 2β`` and ``b = κ + 2β``, ``(K, 2)``."""
    a, b = logs.exp().unbind(-1)
    return 0.5 * (a + b), 0.25 * (b - a)


class _Precisions:
    """The mean log-likelihood :math:`q β - m κ - \\log(c e^{-κ})` as a function of the two log-precisions.

    Arguments:
        away: m, the mean of ``1 - γ1·x``, ``(K,)``
        oval: q, the mean of ``(γ2·x)² - (γ3·x)²``, not negative, ``(K,)``
        max_precision: upper bound
    """

    def __init__(self, away: Tensor, oval: Tensor, max_precision: float) -> None:
        self.observed = torch.stack([away, oval], -1)
        self.low, self.high = math.log(_FLAT), math.log(max_precision)
        self.sign = torch.tensor([-1.0, 1.0]).to(away)

    def value(self, logs: Tensor) -> Tensor:
        """``(K,)``."""
        kappa, beta = _natural(logs)
        natural = torch.stack([kappa, beta], -1)
        return (self.sign * self.observed * natural).sum(-1) - quadrature(kappa, beta)[2].logsumexp(-1)

    def better(self, new: Tensor, old: Tensor) -> Tensor:
        """``new``, brought into the bounds, where it is better than ``old``."""
        new = torch.stack([new[:, 0], torch.maximum(new[:, 0], new[:, 1])], -1).clamp(self.low, self.high)
        return torch.where((self.value(new) > self.value(old))[:, None], new, old)

    def moment_estimate(self) -> Tensor:
        """Minus the logarithms of the variances along the two axes."""
        away, oval = self.observed.unbind(-1)
        return -torch.stack([away + 0.5 * oval, away - 0.5 * oval], -1).clamp_min(math.exp(-self.high)).log()

    def step(self, logs: Tensor) -> Tensor:
        """A Newton step, shortened until it is better."""
        _, expected, covariance = moments(*_natural(logs))
        scale = torch.tensor([[0.5, 0.5], [-0.25, 0.25]]).to(logs) * logs.exp()[:, None]
        slope = torch.einsum("ki,kij->kj", self.sign * (self.observed - expected), scale)
        covariance = covariance * self.sign[:, None] * self.sign
        # the second derivative of the change of variables enters with the sign that keeps this positive
        curvature = scale.transpose(1, 2) @ covariance @ scale + torch.diag_embed(slope.abs())
        # what is at a bound and wants beyond it stays, and leaves the other free
        stuck = ((logs >= self.high) & (slope > 0)) | ((logs <= self.low) & (slope < 0))
        free = (~stuck).double()
        curvature = curvature * free[:, :, None] * free[:, None] + torch.diag_embed(1 - free + 1e-100)
        move = torch.linalg.solve(curvature, slope * free).clamp(-2, 2)
        for shrink in (1.0, 0.25, 0.03):
            found = self.better(logs + shrink * move, logs)
            move, logs = torch.where((found != logs).any(-1, keepdim=True), 0.0, move), found
            if not bool(move.any()):
                break
        return logs
