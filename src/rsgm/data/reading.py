"""What a file says of its columns, and data that are read and written by it."""

from __future__ import annotations

import itertools
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import override

from rsgm.data.base import ManifoldData
from rsgm.data.covariates import Covariates
from rsgm.data.factors import Factor
from rsgm.data.names import Floats
from rsgm.data.tables import Table
from rsgm.description import describe
from rsgm.manifolds import Manifold, Product


@dataclass(frozen=True)
class Reading:
    """What a file says of its columns: enough to read others like it, and to write points and contexts.

    Arguments:
        factors: what the columns of a point are
        covariates: what those of the context are; None without one
    """

    factors: Sequence[Factor]
    covariates: Covariates | None = None

    @property
    def manifold(self) -> Manifold:
        """Where the points lie."""
        manifolds = [factor.manifold for factor in self.factors]
        return manifolds[0] if len(manifolds) == 1 else Product(manifolds)

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of points."""
        return tuple(itertools.chain(*(factor.header for factor in self.factors)))

    def points(self, values: Floats) -> Tensor:
        """Points ``(N, *shape)``, float64, of rows ``(N, columns)``."""
        parts = [factor.from_units(own) for factor, own in self.each(values)]
        return parts[0] if len(parts) == 1 else self.manifold.join(parts)

    def values(self, x: Tensor) -> Floats:
        """Rows of points."""
        x = x.detach().double().cpu()
        parts = [x] if len(self.factors) == 1 else self.manifold.split(x)
        return np.concatenate([f.to_units(part) for f, part in zip(self.factors, parts, strict=True)], 1)

    def each(self, values: Floats) -> Iterator[tuple[Factor, Floats]]:
        """Each factor with its columns."""
        start = 0
        for factor in self.factors:
            stop = start + len(factor.header)
            yield factor, values[:, start:stop]
            start = stop

    def normal(self, values: Floats) -> Floats:
        """Rows with one number for what is written in several ways."""
        return np.concatenate([factor.normal(own) for factor, own in self.each(values)], 1)

    def scaled(self, rows: Table, train: Tensor) -> Reading:
        """This with the scales of rows of training."""
        factors = [factor.scaled(own[train.numpy()]) for factor, own in self.each(rows.values)]
        covariates = None if self.covariates is None else self.covariates.scaled(rows.beside, train)
        return Reading(factors, covariates)


class ReadData(ManifoldData, ABC):
    """Data whose points and contexts a `Reading` describes, which a subclass has as ``_reading``."""

    _reading: Reading

    @override
    def reading(self) -> dict[str, Any]:
        return describe(self._reading)

    @override
    def from_units(self, values: Floats) -> Tensor:
        return self._reading.points(values)

    @override
    def to_units(self, x: Tensor) -> Floats:
        return self._reading.values(x)

    @override
    def log_unit(self, x: Tensor) -> Tensor:
        return sum(factor.log_unit(own) for factor, own in self._reading.each(self.to_units(x)))

    @override
    def encode_context(self, cells: Mapping[str, Sequence[str]]) -> Tensor:
        covariates = self._reading.covariates
        return super().encode_context(cells) if covariates is None else covariates.encode(cells)

    @override
    def decode_context(self, context: Tensor) -> list[tuple[str, ...]]:
        covariates = self._reading.covariates
        return super().decode_context(context) if covariates is None else covariates.decode(context)
