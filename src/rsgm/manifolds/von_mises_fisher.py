r"""The heights of von Mises-Fisher laws on the sphere :math:`S^d`: density, moments and draws of w = 1 - cos.

.. math:: p(w) \propto e^{-\kappa w} [w (2 - w)]^{d/2 - 1}, \qquad 0 \le w \le 2

In w nothing cancels, however large or small the concentration is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rsgm.manifolds.rejection import first_accepted


def _quadrature(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Nodes w, their w (2 - w), and logarithms of the weights of :math:`\int e^{-\kappa w} [w(2 - w)]^{d/2-1} dw`.

    The trapezoidal rule in the logit of w / 2, about the mode: analytic, and decaying at both ends. Its sums have
    positive terms, so that they and their derivatives in κ are right to rounding for all κ and d; Bessel functions
    underflow, and their ratios cancel.
    """
    kappa = kappa.double()[..., None]
    mode = (dim / (2 * kappa + torch.hypot(2 * kappa, kappa.new_tensor(dim)))).log().detach()
    # the terms fall as exp(-d |z| / 2) at the ends, and as a normal density of variance 2 / d to 4 / d about the mode
    reach, step = 74 / dim + 18 / math.sqrt(dim), min(0.2, 0.7 / math.sqrt(dim))
    count = math.ceil(reach / step)
    z = mode + step * torch.arange(-count, count + 1, dtype=kappa.dtype, device=kappa.device)
    w, rest = 2 * z.sigmoid(), 2 * (-z).sigmoid()
    log_product = math.log(4) + torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)
    return w, w * rest, 0.5 * dim * log_product - kappa * w + math.log(step / 2)


def log_constant(kappa: Tensor, dim: int) -> Tensor:
    r"""The log-density at the mean direction, nats: :math:`p(x) = C e^{-\kappa w}`; differentiable, of any order."""
    if dim == 2:
        # log κ / 2π(1 - exp(-2κ)), and its series, for the derivative of the first is a difference of two 1 / κ
        small = kappa < 0.03
        safe = torch.where(small, torch.ones_like(kappa), kappa)
        square = kappa.square()
        series = kappa - square * (1 / 6 - square * (1 / 180 - square / 2835))
        closed = (2 * safe).log() - (-torch.expm1(-2 * safe)).log()
        return torch.where(small, series, closed) - math.log(4 * math.pi)
    log_area = math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)
    return (-_quadrature(kappa, dim)[2].logsumexp(-1) - log_area).to(kappa.dtype)


def mean_height(kappa: Tensor, dim: int) -> Tensor:
    r""":math:`E\,w = 1 - A(\kappa)`, with all its digits where it is small."""
    w, _, log_weight = _quadrature(kappa, dim)
    return (log_weight.softmax(-1) * w).sum(-1).to(kappa.dtype)


def mean_cosine(kappa: Tensor, dim: int) -> Tensor:
    r""":math:`A(\kappa) = I_{(d+1)/2}(\kappa) / I_{(d-1)/2}(\kappa) = \kappa\,E\,w(2 - w) / d` (by parts)."""
    _, product, log_weight = _quadrature(kappa, dim)
    return (kappa / dim * (log_weight.softmax(-1) * product).sum(-1)).to(kappa.dtype)


def draw_heights(width: Tensor, dim: int, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws of w for the concentrations :math:`\text{width}^{-2}`; zero at width zero, NaN where it is NaN.

    Wood's rejection method (Wood 1994, Comm. Statist. Simul. 23), for w in units of its scale width².
    """
    # beyond, the law is uniform to the last digit
    scale = width.square().clamp_max(1e16)
    b = dim / (2 / scale + torch.hypot(2 / scale, scale.new_tensor(dim)))
    ratio = dim / (2 + torch.hypot(scale.new_tensor(2), dim * scale))
    pole = 2 * ratio / (1 + b)

    def propose() -> tuple[Tensor, Tensor]:
        gauss = torch.randn(2, *scale.shape, dim, generator=generator, dtype=scale.dtype, device=scale.device)
        first, second = gauss.square().sum(-1)
        beta = first / (first + second)
        height = 2 * ratio * beta / (1 - (1 - b) * beta)
        level = torch.rand(scale.shape, generator=generator, dtype=scale.dtype, device=scale.device)
        odds = (pole + height - scale * pole * height) / (pole * (2 - scale * pole))
        return height, pole - height + dim * odds.log() >= level.log()

    # the product may round to more than the height of the antipode
    return (scale * first_accepted(scale, (), propose)).clamp_max(2)
