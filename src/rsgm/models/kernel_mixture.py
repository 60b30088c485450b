"""What kernel densities share whose kernels follow the data."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions.combined import choose
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.models.base import GenerativeModel
from rsgm.models.kernels import Kernels, or_uniform
from rsgm.models.neighbourhoods import LeftOut
from rsgm.models.tiles import NOTHING


class KernelLaw(NamedTuple):
    """Kernels, and what each of them and the uniform law weigh.

    Fields:
        kernels: of n centres and F families
        weights: of each kernel, ``(n, F)``
        uniform: weight of the uniform law, ``()``; zero where there is none
    """

    kernels: Kernels
    weights: Tensor
    uniform: Tensor


class KernelMixture(GenerativeModel):
    """A mixture of kernels and of the uniform law where there is one; a subclass says how they come from the points.

    Arguments:
        manifold: where the points live; one that knows ``logmap`` and ``log_det_exp``
        min_width: the smallest standard deviation of a kernel, in units of length (on spheres, tori and SO(3) radians)
        max_width: the largest
        leave_out: ``"places"``, ``"points"`` or a length

    Raises:
        ValueError: for widths out of range, and something else that is left out
    """

    centres: Tensor

    def __init__(self, manifold: Manifold, min_width: float, max_width: float, leave_out: LeftOut) -> None:
        super().__init__(manifold)
        bound = manifold.injectivity_radius / 4
        if not (0 < min_width <= max_width < math.inf and max_width <= bound):
            raise ValueError(
                f"{type(self).__name__}: 0 < min_width <= max_width <= {bound:.3g} is needed, found {min_width} and "
                f"{max_width}."
            )
        named = leave_out in ("places", "points")
        if not named and not (isinstance(leave_out, (int, float)) and 0 < leave_out < math.inf):
            raise ValueError(
                f"{type(self).__name__}: leave_out is {leave_out!r}, expected places, points, or a length above 0."
            )
        self.min_width, self.max_width, self.leave_out = min_width, max_width, leave_out

    @abstractmethod
    def law(self) -> KernelLaw:
        """The mixture as it is now, in float64.

        Raises:
            RuntimeError: before `fit_points`
        """

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """A kernel, or the uniform law; then a draw from it."""
        kernels, weights, uniform = self.law()
        place = choose(torch.cat([weights.sum(1), uniform[None]]), n, generator)
        anywhere = place == len(weights)
        place = place.clamp_max(len(weights) - 1)
        family = choose(weights[place], 1, generator)[:, 0]
        near = kernels.rows(place).draw(self.manifold, family, generator)
        return or_uniform(self.manifold, near, anywhere, generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The mixture density, in float64."""
        law = self.law()
        # narrow kernels tell a point on the manifold from one a little off it
        x = self.manifold.projx(x.to(law.weights))
        uniform = float(law.uniform.log() - self.manifold.log_volume) if law.uniform > 0 else NOTHING
        log_sum = law.kernels.log_sum(self.manifold, x, law.weights.log(), uniform)
        value = torch.logaddexp(log_sum, torch.full_like(log_sum, uniform))
        return LogProb(torch.where(value > 0.5 * NOTHING, value, -math.inf), 0.0)

    @override
    def resolution(self) -> float:
        return self.min_width

    @property
    @override
    def fitted(self) -> bool:
        return len(self.centres) > 0
