"""Neural spline flows on circles, lines and their products."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform
from typing_extensions import override

from rsgm.charts import ExponentialWrap
from rsgm.likelihood import Draws, LogProb, batches
from rsgm.manifolds import Manifold
from rsgm.models.base import GenerativeModel, Weights
from rsgm.networks.features import with_context
from rsgm.progress import bar

#: standard deviations of a coordinate on a line within which the splines bend it; beyond they leave it as it is
_REACH = 5.0
#: points that are transformed together
_BATCH = 4096


class SplineFlow(GenerativeModel):
    r"""A neural spline flow: autoregressive splines of the angles, and of the coordinates of lines.

    .. math:: \log p(x) = \log p_0(z) + \sum_{l, i} \log \partial_{y_i} f_{l i}(y_i;\, y_{j < i}), \qquad z = f_L \circ
        \dots \circ f_1 (x)

    Each f is a monotone rational-quadratic spline, whose knots are a masked network's function of the coordinates
    before it, in an order that is turned round from one transform to the next. A spline of an angle maps the circle
    onto itself; with the network's view of angles, which is their cosine and sine, the density is continuous across
    :math:`\pm\pi`. (That of `zuko.flows.NCSF` is not: its networks see the angles themselves.) A coordinate of a line
    is standardised, and bent within 5 standard deviations. The law :math:`p_0` is uniform on circles and normal on
    lines.

    Log-densities are exact, by one evaluation of each network; samples need one for each coordinate. Both are computed
    in float64.

    References: Durkan et al. 2019, "Neural Spline Flows", arXiv:1906.04032; Rezende et al. 2020, "Normalizing Flows on
    Tori and Spheres", arXiv:2002.02428, section 2.1; Papamakarios et al. 2017, arXiv:1705.07057 (masks). The splines
    and masked networks are those of the package zuko: ``pip install "rsgm[flows]"``.

    Arguments:
        manifold: a torus, a Euclidean space, the circle ``Sphere(1)``, or a product of these
        transforms: L, the number of autoregressive transforms
        hidden: widths of the layers of each network
        bins: number of pieces of each spline
        dropout: share of the neurons that a step of training leaves out: on sets of few points it may take much longer
            to overfit
        context_features: size of the context of a conditional model

    Raises:
        ValueError: for a curved manifold, and for arguments out of range
        ImportError: where zuko is not installed

    Example:
        >>> from rsgm.manifolds import Torus
        >>> model = SplineFlow(Torus(2), transforms=2, hidden=[16])
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 2, 2])
    """

    def __init__(
        self,
        manifold: Manifold,
        transforms: int = 4,
        hidden: Sequence[int] = (256, 256),
        bins: int = 8,
        dropout: float = 0.0,
        context_features: int = 0,
    ) -> None:
        super().__init__(manifold)
        if not manifold.periods:
            raise ValueError(
                "SplineFlow lives on products of circles and lines: Torus, Euclidean, Sphere(1) and Product of these; "
                f"found {manifold}."
            )
        if min(transforms, len(hidden), *hidden) < 1 or bins < 2 or not 0 <= dropout < 1 or context_features < 0:
            raise ValueError(
                "SplineFlow: transforms >= 1, layers of hidden >= 1, bins >= 2, 0 <= dropout < 1 and context_features "
                f">= 0 are needed, found {transforms}, {list(hidden)}, {bins}, {dropout} and {context_features}."
            )
        self.context_features = context_features
        self.chart = ExponentialWrap(manifold)
        circles = torch.tensor([math.isfinite(period) for period in manifold.periods])
        order = torch.arange(manifold.dim)
        self.splines = nn.ModuleList(
            _Splines(circles, order if k % 2 == 0 else order.flip(0), hidden, bins, dropout, context_features)
            for k in range(transforms)
        )
        # all coordinates that are bent are between -pi and pi
        self.register_buffer("circles", circles, persistent=False)
        self.register_buffer("shift", torch.zeros(manifold.dim, dtype=torch.float64))
        self.register_buffer("scale", torch.where(circles, 1.0, _REACH / math.pi).double())

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Standardise the coordinates of lines, by the mean and the deviation of the training points."""
        y = self.chart.inverse(train.to(self.shift))
        std = y.std(0, correction=0).clamp_min(1e-6)
        self.shift.copy_(torch.where(self.circles, 0.0, y.mean(0)))
        self.scale.copy_(torch.where(self.circles, 1.0, std * _REACH / math.pi))

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """The negative log-likelihood of each point."""
        return {"loss": -self._log_prob(self.splines, x, context)}

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` points: draws of uniform and normal laws, through the inverse splines."""
        points = []
        with torch.no_grad(), bar("samples", n) as shown:
            splines = copy.deepcopy(self.splines).double().eval()
            for part, labels in batches(self._noise(n, generator), context, _BATCH):
                points.append(self._point(_back(splines, part, self._seen(part, labels))))
                shown.update(len(part))
        found = torch.cat(points)
        # coordinates that are not bounded may be of any size
        return found if math.isinf(self.manifold.log_volume) else found.float()

    @override
    def transported(self, n: int, context: Tensor | None, generator: torch.Generator) -> Draws:
        with torch.inference_mode(False), torch.no_grad():
            splines, z = copy.deepcopy(self.splines).double().eval(), self._noise(n, generator)
            given = self._seen(z, context)
            columns = [
                torch.func.jvp(lambda y: _back(splines, y, given), (z,), (axis.expand_as(z).contiguous(),))
                for axis in torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
            ]
            log_det = torch.linalg.slogdet(torch.stack([column for _, column in columns], -1)).logabsdet
            log_density = self._noise_log_prob(z) - log_det - self.scale.log().sum()
            return Draws(self._point(columns[0][0]), log_density)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The exact log-density, in float64."""
        x, values = self.manifold.projx(x.to(self.shift)), []
        with torch.set_grad_enabled(x.requires_grad and torch.is_grad_enabled()), bar("log-densities", len(x)) as shown:
            splines = copy.deepcopy(self.splines).double().eval()
            for part, labels in batches(x, context, _BATCH):
                values.append(self._log_prob(splines, part, labels))
                shown.update(len(part))
        return LogProb(torch.cat(values), 0.0)

    def _log_prob(self, splines: nn.ModuleList, x: Tensor, context: Tensor | None) -> Tensor:
        shift, scale = self.shift.to(x), self.scale.to(x)
        y = (self.chart.inverse(x) - shift) / scale
        given, value = self._seen(y, context), -scale.log().sum()
        for spline in splines:
            y, log_slope = spline(y, given)
            value = value + log_slope
        return value + self._noise_log_prob(y)

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws of the law that the splines end in, ``(n, dim)``."""
        options = {"generator": generator, "dtype": torch.float64, "device": self.device}
        size = (n, self.manifold.dim)
        angle, normal = (2 * torch.rand(size, **options) - 1) * math.pi, torch.randn(size, **options) * math.pi / _REACH
        return torch.where(self.circles, angle, normal)

    def _noise_log_prob(self, z: Tensor) -> Tensor:
        normal = -0.5 * (z * _REACH / math.pi).square() - 0.5 * math.log(2 * math.pi) - math.log(math.pi / _REACH)
        return torch.where(self.circles, -math.log(2 * math.pi), normal).sum(-1)

    def _point(self, y: Tensor) -> Tensor:
        return self.manifold.projx(self.chart(self.shift + self.scale * y))

    def _seen(self, y: Tensor, context: Tensor | None) -> Tensor:
        """What all networks see beside the coordinates ``(B, dim)``: the context, and a one where there is nothing."""
        context = context if context is None else context.to(y)
        return with_context(y.new_ones(len(y), 1), context, self.context_features, "SplineFlow")


class _Splines(nn.Module):
    """An autoregressive transform of coordinates ``(B, dim)`` in [-pi, pi], and of those of lines beyond.

    Arguments:
        circles: which coordinates are angles, ``(dim,)``
        order: place of each coordinate in the order in which the knots depend on them, ``(dim,)``
        hidden, bins, dropout, context_features: see `SplineFlow`
    """

    def __init__(
        self, circles: Tensor, order: Tensor, hidden: Sequence[int], bins: int, dropout: float, context_features: int
    ) -> None:
        super().__init__()
        lines, angles = (~circles).nonzero()[:, 0], circles.nonzero()[:, 0]
        for name, index in {"circles": circles, "lines": lines, "angles": angles}.items():
            self.register_buffer(name, index, persistent=False)
        self.bins = bins
        before = order[:, None] > order[torch.cat([lines, angles, angles])]
        mask = torch.cat([before, torch.ones(len(order), 1 + context_features, dtype=torch.bool)], 1)
        masked_network, _ = _zuko()
        self.network = masked_network(mask.repeat_interleave(3 * bins - 1, 0), hidden)
        if dropout:
            for k in range(len(hidden)):  # after each activation
                self.network.insert(3 * k + 2, nn.Dropout(dropout))

    def forward(self, y: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``y``, and the logarithm of the determinant ``(B,)``."""
        z, log_slope = self._at(y, given).call_and_ladj(self._turned(y))
        return z, log_slope.sum(-1)

    def inverse(self, z: Tensor, given: Tensor) -> Tensor:
        """The ``y`` whose image is ``z``: after k rounds the first k coordinates are right."""
        y = torch.zeros_like(z)
        for _ in range(z.shape[1]):
            y = self._turned(self._at(y, given).inv(z))
        return y

    def _at(self, y: Tensor, given: Tensor) -> Transform:
        """The splines whose knots depend on ``y``."""
        angles = y[:, self.angles]
        out = self.network(torch.cat([y[:, self.lines], angles.cos(), angles.sin(), given], 1))
        knots = out.unflatten(1, (y.shape[1], -1)).split([self.bins, self.bins, self.bins - 1], -1)
        return _zuko()[1](*knots, bound=math.pi)

    def _turned(self, y: Tensor) -> Tensor:
        """Angles turned by pi: the ends of each spline, which stay, are in the middle of the next one."""
        return torch.where(self.circles, torch.remainder(y, 2 * math.pi) - math.pi, y)


def _back(splines: nn.ModuleList, z: Tensor, given: Tensor) -> Tensor:
    """What the splines, one after the other, map to ``z``."""
    for spline in reversed(splines):
        z = spline.inverse(z, given)
    return z


def _zuko() -> tuple[type[nn.Module], type[Transform]]:
    """Zuko's masked network and its spline."""
    checked = Distribution._validate_args
    try:
        from zuko.nn import MaskedMLP
        from zuko.transforms import MonotonicRQSTransform
    except ImportError as error:
        raise ImportError('SplineFlow is made of parts of the package zuko: pip install "rsgm[flows]".') from error
    finally:
        # the import turns off the checks of the arguments of every `torch.distributions.Distribution`
        Distribution.set_default_validate_args(checked)
    return MaskedMLP, MonotonicRQSTransform
