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


def draw_heights(width: Tensor, dim: int, batch: torch.Size, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws ``batch`` of w for the concentrations :math:`\text{width}^{-2}`; zero at width zero, NaN where it is NaN.

    On S² by the inverse of the distribution function, else by Wood's rejection method (Wood 1994, Comm. Statist. Simul.
    23), for w in units of its scale width². Its Beta variate, of two equal parameters d / 2, is
    :math:`\tfrac12 - \tfrac12\sqrt{1 - u^{2/(d-1)}}\cos 2\pi v` of uniform u and v (Ulrich 1984, Appl. Statist. 33).
    """
    # beyond, the law is uniform to the last digit
    scale = width.square().clamp_max(1e16)
    options = {"generator": generator, "dtype": scale.dtype, "device": scale.device}
    if dim == 2:
        u = torch.rand(batch, **options)
        # adding zero turns -0 to 0
        return (-scale * torch.log1p(u * torch.expm1(-2 / scale)) + 0.0).clamp_max(2)
    b = dim / (2 / scale + torch.hypot(2 / scale, scale.new_tensor(dim)))
    ratio = dim / (2 + torch.hypot(scale.new_tensor(2), dim * scale))
    pole = 2 * ratio / (1 + b)

    def propose(scale: Tensor, b: Tensor, ratio: Tensor, pole: Tensor) -> tuple[Tensor, Tensor]:
        u, turn, level = torch.rand(3, len(scale), **options)
        if dim == 1:
            beta = (math.pi * turn).sin().square()
        else:
            beta = (1 - (1 - u.pow(2 / (dim - 1))).sqrt() * (2 * math.pi * turn).cos()) / 2
        height = 2 * ratio * beta / (1 - (1 - b) * beta)
        odds = (pole + height - scale * pole * height) / (pole * (2 - scale * pole))
        return height, pole - height + dim * odds.log() >= level.log()

    parameters = (value.expand(batch) for value in (scale, b, ratio, pole))
    # the product may round to more than the height of the antipode
    return (scale * first_accepted(propose, (), *parameters)).clamp_max(2)
