"""What parameters and values have to be, as constraints of `torch.distributions`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint
from typing_extensions import override

from rsgm.manifolds import Manifold

#: by which a coordinate may be off, absolutely and relatively: points come in float32, rounded by files and solvers
_TOLERANCE = 1e-4


def floating(x: Tensor) -> Tensor:
    """Whole numbers as floating-point ones of the default type, others as they are.

    Raises:
        TypeError: for what is no tensor
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a tensor for the parameter of a law, found {x!r}; use torch.tensor.")
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


class OnManifold(Constraint):
    """The points of a manifold, to within 1e-4 in each coordinate.

    Arguments:
        manifold: whose ``check_point_on_manifold`` decides
    """

    def __init__(self, manifold: Manifold) -> None:
        self.manifold = manifold

    @property
    @override
    def event_dim(self) -> int:  # type: ignore[override]
        return len(self.manifold.shape)

    @override
    def check(self, value: Tensor) -> Tensor:
        batch = value.shape[: value.dim() - self.event_dim]
        if self._holds(value):
            return torch.ones(batch, dtype=torch.bool, device=value.device)
        each = [self._holds(point) for point in value.reshape(batch.numel(), *value.shape[len(batch) :])]
        return torch.tensor(each, device=value.device).reshape(batch)

    def __repr__(self) -> str:
        return f"OnManifold({self.manifold})"

    def _holds(self, value: Tensor) -> bool:
        return self.manifold.check_point_on_manifold(value, atol=_TOLERANCE, rtol=_TOLERANCE)


class PositiveFinite(Constraint):
    """Positive finite numbers that are normal in a floating-point type: none that it rounds to zero or infinity.

    Arguments:
        dtype: the type; None for that of the numbers
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype

    @override
    def check(self, value: Tensor) -> Tensor:
        value = value.to(self.dtype or value.dtype)
        return (value >= torch.finfo(value.dtype).tiny) & value.isfinite()

    def __repr__(self) -> str:
        return f"PositiveFinite({self.dtype or ''})"
