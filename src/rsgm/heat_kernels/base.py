"""What the families of heat kernels share: caches, power series, tables of quantiles."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

TABLE_SHAPE = (112, 128)  # rows in the variance time, columns in the norm
TABLE_S0, TABLE_S1, TABLE_R1 = 0.1, 25.0, 8.5  # rows even in log(1 + s / s0); last s; last norm (tail 2e-16)

#: what a kernel may be asked at
Number: TypeAlias = Tensor | NDArray | float

_T = TypeVar("_T")


def cached(build: Callable[..., _T]) -> Callable[..., _T]:
    """A cache of tensors that are built in a new thread, where no vmap, jvp, inference mode or autocast is on."""

    @functools.cache
    def made(*args: object) -> _T:
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(build, *args).result()

    return made


def tensors(*values: Number) -> list[Tensor]:
    """Numbers, arrays and tensors as tensors of one floating point type and device.

    As in torch, the type of tensors with axes goes before that of single numbers; floats alone are of the default type.
    """
    given = [value if isinstance(value, Tensor | float | int) else torch.as_tensor(value) for value in values]
    found = [value for value in given if isinstance(value, Tensor)]
    types = [value.dtype for value in found if value.dim()] or [value.dtype for value in found]
    dtype = functools.reduce(torch.promote_types, types, torch.bool)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    device = found[0].device if found else None
    return [torch.as_tensor(value, dtype=dtype, device=device) for value in given]


def like(value: Number, x: Tensor) -> Tensor:
    """A tensor as it is, and a number or an array in the type and on the device of ``x``."""
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=x.dtype, device=x.device)


def power_series(x: Tensor, coefficients: list[float], single: int = 5) -> Tensor:
    """The value of a power series: of all its terms in float64, of the first ``single`` in other types."""
    terms = coefficients if x.dtype == torch.float64 else coefficients[:single]
    total = x * terms[-1] + terms[-2]
    for term in terms[-3::-1]:
        total = total * x + term
    return total


def table_times() -> np.ndarray:
    """The variance times of the rows of a table."""
    return TABLE_S0 * np.expm1(np.linspace(0, np.log1p(TABLE_S1 / TABLE_S0), TABLE_SHAPE[0]))


def chi_norms(mass: np.ndarray, dim: int) -> np.ndarray:
    """The norms of ``dim`` normal numbers with the quantiles of the inner edges of cells of given mass."""
    below, above = np.cumsum(mass)[:-1], np.cumsum(mass[::-1])[-2::-1]
    half, total = dim / 2, mass.sum()
    lower, upper = special.gammaincinv(half, below / total), special.gammainccinv(half, above / total)
    return np.sqrt(2 * np.where(below < above, lower, upper))


def interpolate(table: Tensor, s: Tensor, column: Tensor) -> Tensor:
    """Cubic interpolation in a flattened table at the variance times s and the columns in [0, 1]."""
    height, width = TABLE_SHAPE
    row, row_weights = _lagrange(torch.log1p(s / TABLE_S0) / np.log1p(TABLE_S1 / TABLE_S0), height)
    column, column_weights = _lagrange(column, width)
    four = torch.arange(4, device=s.device).view(4, *[1] * s.ndim)
    index = width * (row + four).unsqueeze(1) + (column + four)
    return (row_weights.unsqueeze(1) * column_weights * table[index]).sum((0, 1))


def _lagrange(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first of four neighbours of ``x`` among ``size`` even nodes of [0, 1], and their weights ``(4, ...)``."""
    x = x * (size - 1)
    first = (torch.floor(x) - 1).clamp(0, size - 4)
    a = x - first
    b, c, d = a - 1, a - 2, a - 3
    return first.long(), torch.stack([b * c * d / -6, a * c * d / 2, a * b * d / -2, a * b * c / 6])
