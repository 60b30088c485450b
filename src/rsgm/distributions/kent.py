"""The Kent law: elliptical bumps on the sphere."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.checks import floating
from rsgm.manifolds import Sphere
from rsgm.manifolds.rejection import first_accepted

#: of the quadrature; with 512 the normaliser is right to 1e-12 up to a concentration of 1e10
_NODES = 512


class Kent(ManifoldDistribution):
    r"""The Kent (FB5) law on S²: contours are ellipses about the first axis of the frame, long along the second.

    .. math:: p(x) = c(\kappa, \beta)^{-1}
        \exp\{\kappa\,\gamma_1\!\cdot x + \beta[(\gamma_2\!\cdot x)^2 - (\gamma_3\!\cdot x)^2]\}

    Where it is narrow the variances along the two axes are :math:`(\kappa - 2\beta)^{-1}` and
    :math:`(\kappa + 2\beta)^{-1}`, radians². The normaliser is exact: with :math:`w = 1 - \gamma_1\!\cdot x`,

    .. math:: c = 2\pi \int_0^2 e^{\kappa(1 - w)} I_0(\beta w (2 - w))\,dw

    References: Kent 1982, J. R. Stat. Soc. B 44; Kent, Ganeiber and Mardia 2018, J. Comput. Graph. Stat. 27 (draws).

    Arguments:
        frame: an orthogonal matrix with the columns :math:`\gamma_1, \gamma_2, \gamma_3`, shape ``(*batch, 3, 3)``
        concentration: :math:`\kappa \ge 0`, a number or a tensor that broadcasts with ``batch``
        ovalness: :math:`\beta`, with :math:`0 \le 2\beta < \kappa` (or both zero): beyond, the law has two modes
        validate_args: check values (default: as `torch.distributions` does)

    Raises:
        ValueError: for a frame of another shape or not orthogonal, and for parameters out of range

    Example:
        >>> law = Kent(torch.eye(3), 50.0, 20.0)
        >>> law.draw(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        frame: Tensor,
        concentration: Tensor | float,
        ovalness: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        frame = floating(frame)
        if frame.shape[-2:] != (3, 3):
            raise ValueError(f"Kent: the frame must end with the shape (3, 3), found {tuple(frame.shape)}.")
        gram = frame.transpose(-1, -2) @ frame
        if not torch.allclose(gram, torch.eye(3).to(frame).expand_as(gram), atol=1e-4):
            raise ValueError("Kent: the columns of the frame must be orthonormal.")
        kappa, beta = (
            torch.as_tensor(value, dtype=frame.dtype, device=frame.device) for value in (concentration, ovalness)
        )
        batch = torch.broadcast_shapes(frame.shape[:-2], kappa.shape, beta.shape)
        kappa, beta = kappa.expand(batch), beta.expand(batch)
        if not ((beta >= 0) & ((2 * beta < kappa) | ((kappa == 0) & (beta == 0))) & kappa.isfinite()).all():
            raise ValueError(
                "Kent: 0 <= 2 * ovalness < concentration is needed (beyond, the law has two modes), found a "
                f"concentration in [{float(kappa.min()):g}, {float(kappa.max()):g}] and an ovalness in "
                f"[{float(beta.min()):g}, {float(beta.max()):g}]."
            )
        self.manifold = Sphere(2)
        self.frame, self.concentration, self.ovalness = frame.expand(*batch, 3, 3), kappa, beta
        super().__init__(batch, torch.Size((3,)), validate_args=validate_args)

    @property
    @override
    def batched(self) -> dict[str, int]:
        return {"frame": 2, "concentration": 0, "ovalness": 0}

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *batch, 3)``; from differences, for κ γ·x would cancel."""
        value = self._point(value)
        gap = value - self.frame[..., 0]
        # of the more precise of the two types
        _, second, third = torch.einsum("...i,...ij->...j", value.to(gap), self.frame.to(gap)).unbind(-1)
        oval = self.ovalness * (second - third) * (second + third)
        return oval - 0.5 * self.concentration * gap.square().sum(-1) - self._log_constant

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""``n`` exact draws ``(n, *batch, 3)`` by rejection from an angular central Gaussian law.

        With :math:`2\cos \le 1 + \cos^2` the law is below a Bingham law, and that below the angular central Gaussian.
        """
        kappa, beta = self.concentration.double(), self.ovalness.double()
        a, b = kappa - 2 * beta, kappa + 2 * beta
        # the best envelope solves 1/q + 1/(q + a) + 1/(q + b) = 1; any q in [1, 3] is one
        q = torch.ones_like(a)
        for _ in range(12):
            parts = torch.stack([1 / q, 1 / (q + a), 1 / (q + b)])
            q = (q + (parts.sum(0) - 1) / parts.square().sum(0)).clamp(1, 3)
        scale = torch.stack([torch.ones_like(a), (1 + a / q).rsqrt(), (1 + b / q).rsqrt()], -1)
        # a and b times the squared scales, without overflow
        across, along = q / (1 + q / a), q / (1 + q / b)
        q, scale, across, along = (part.to(self.frame) for part in (q, scale, across, along))

        def propose(q: Tensor, kappa: Tensor, across: Tensor, along: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            gauss = torch.randn(scale.shape, generator=generator, dtype=scale.dtype, device=scale.device)
            length = (scale * gauss).norm(dim=-1)
            z = scale * gauss / length[..., None]
            first, second, third = z.unbind(-1)
            level = torch.rand(first.shape, generator=generator, dtype=z.dtype, device=z.device)
            bingham = 0.5 * (across * (gauss[..., 1] / length).square() + along * (gauss[..., 2] / length).square())
            drop = torch.where(first > 0, (second.square() + third.square()) / (1 + first.abs()), 1 - first)
            envelope = 0.5 * (3 - q) + 1.5 * ((q / 3).log() + (2 * bingham / q).log1p())
            return z, level.log() <= envelope - bingham - 0.5 * kappa * drop.square()

        parameters = (q, self.concentration, across, along, scale)
        local = first_accepted(propose, (3,), *(part.expand(n, *part.shape) for part in parameters))
        return self.manifold.projx(torch.einsum("...ij,...j->...i", self.frame, local))

    @property
    def mean(self) -> Tensor:
        r"""The expectation, on :math:`\gamma_1` inside of the sphere."""
        height = moments(self.concentration, self.ovalness)[1][..., :1]
        return (1 - height).to(self.frame) * self.frame[..., 0]

    @property
    def mode(self) -> Tensor:
        r"""The first axis :math:`\gamma_1`; where the concentration is zero, one of all points."""
        return self.frame[..., 0]

    @override
    def entropy(self) -> Tensor:
        log_constant, mean, _ = moments(self.concentration, self.ovalness)
        mean = mean.to(self.frame)
        return log_constant.to(self.frame) + self.concentration * mean[..., 0] - self.ovalness * mean[..., 1]

    @property
    def _log_constant(self) -> Tensor:
        """Logarithm of c exp(-κ), from float64."""
        _, _, log_weight = quadrature(self.concentration, self.ovalness)
        return log_weight.logsumexp(-1).to(self.frame)


def quadrature(kappa: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Nodes w, their w (2 - w), and logarithms of the weights of :math:`\int e^{-\kappa w} I_0(\beta w(2 - w))\,dw`.

    The trapezoidal rule in the logit of w / 2: analytic, and decaying at both ends, at every scale of w.
    """
    kappa, beta = kappa.double()[..., None], beta.double()[..., None]
    low = -37 - kappa.log1p()
    step = (37 - low) / (_NODES - 1)
    z = low + step * torch.arange(_NODES, dtype=low.dtype, device=low.device)
    w, rest = 2 * z.sigmoid(), 2 * (-z).sigmoid()
    product = w * rest
    bessel = torch.special.i0e(beta * product).log()
    # -κ w + β w (2 - w), in the form that does not cancel where 2β is near κ
    exponent = -(kappa - 2 * beta) * w - beta * w.square()
    return w, product, exponent + bessel + (math.pi * step * product).log()


def moments(kappa: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log of c exp(-κ); mean ``(*batch, 2)`` and covariance of w and (γ2·x)² - (γ3·x)²: the derivatives of log c."""
    w, product, log_weight = quadrature(kappa, beta)
    argument = beta.double()[..., None] * product
    ratio = torch.special.i1e(argument) / torch.special.i0e(argument)
    oval = product * ratio
    # E cos² = 1/2 + I_2 / 2 I_0 = 1 - I_1 / (x I_0)
    tiny = argument < 1e-8
    square = product.square() * torch.where(tiny, 0.5, 1 - ratio / torch.where(tiny, 1.0, argument))
    p = log_weight.softmax(-1)
    mean = torch.stack([(p * w).sum(-1), (p * oval).sum(-1)], -1)
    dw, doval = w - mean[..., :1], oval - mean[..., 1:]
    variances = [p * dw.square(), p * dw * doval, p * (doval.square() + square - oval.square())]
    ww, wo, oo = (part.sum(-1) for part in variances)
    return log_weight.logsumexp(-1), mean, torch.stack([torch.stack([ww, wo], -1), torch.stack([wo, oo], -1)], -2)
