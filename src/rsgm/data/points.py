"""Points that a Python program holds: a tensor, an array or a DataFrame."""

from __future__ import annotations

import bisect
import hashlib
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from typing_extensions import override

from rsgm.data.angles import NO_ANGLES, Angles, no_angles, refuse_times
from rsgm.data.covariates import Covariates
from rsgm.data.factors import CoordinateFactor, Factor, NumberFactor
from rsgm.data.names import Choice, Column, Named, Wanted, plain
from rsgm.data.places import PlaceFactor, Places, like_hours, on_the_sky
from rsgm.data.reading import ReadData, Reading
from rsgm.data.rotations import EULER, Matrices, Quaternions, Rotations, RotationVectors, like_axes
from rsgm.data.so3 import RotationFactor
from rsgm.data.splits import Split
from rsgm.data.tables import like_radians
from rsgm.data.torus import AngleFactor
from rsgm.manifolds import Manifold, SpecialOrthogonal, Sphere, Torus, from_lat_lon
from rsgm.manifolds.so3 import quaternion_to_matrix, rotation_vector_to_matrix

#: what the scalar part of a quaternion is called
_SCALAR = re.compile(r"(?:.*_)?(?:w|s|r|re|real|scalar)")
_OFF = 1e-4  # how far off the manifold points may be, as for `log_prob`


class PointsData(ReadData):
    """Points in memory: anything that NumPy makes an array of numbers of, so a tensor, an array or a DataFrame.

    Points are given by their coordinates in the manifold's ambient space, and a little off it are projected. For other
    units there are `from_lat_lon`, `from_angles`, `from_quaternions` and `from_rotation_vectors`, which take the
    arguments below too; `to_units` then gives samples in these units.

    A checkpoint does not hold the points: hand them to `rsgm.evaluate` again, which makes the same splits of them.

    Arguments:
        manifold: where the points live
        points: ``(N, *manifold.shape)``, or each point flattened to a row
        context: what is known of each point and given to the model, (N, c) or (N,) numbers; None for nothing
        weights: what each point counts, (N,), not negative; None where all count the same
        split: ``random`` permutes the rows; ``location`` keeps all rows of one place in one part
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        ValueError: what are no numbers, another shape, or a row off the manifold, which is named; rows count from 0

    Example:
        >>> data = PointsData(Sphere(2), Sphere(2).random_uniform(50, 3), split="location")
        >>> data.setup()
        >>> data.train.points.shape
        torch.Size([40, 3])
        >>> data = PointsData.from_lat_lon([37.75, 19.48], [15.0, 204.4])
        >>> data.to_units(data.points()).round(6).tolist()
        [[37.75, 15.0], [19.48, -155.6]]
    """

    def __init__(
        self,
        manifold: Manifold,
        points: ArrayLike | Tensor,
        context: ArrayLike | Tensor | None = None,
        weights: ArrayLike | Tensor | None = None,
        split: Literal["random", "location"] = "random",
        batch_size: int = 512,
        seed: int | None = None,
        steps_per_epoch: int = 500,
        eval_batch_size: int = 512,
        val_points: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            split=split,
            seed=seed,
            steps_per_epoch=steps_per_epoch,
            eval_batch_size=eval_batch_size,
            val_points=val_points,
        )
        _require_one_index(points, context, weights)
        if manifold == Sphere(2):
            points = _by_name(points, ("x", "y", "z"))
        elif manifold == SpecialOrthogonal():
            points = _by_name(points, Matrices.roles, Rotations({}))
        x, shape = _numbers(points, "points"), manifold.shape
        if tuple(x.shape[1:]) not in (shape, (math.prod(shape),)):
            raise ValueError(
                f"PointsData: found points of shape {tuple(x.shape)}, expected (N, {', '.join(map(str, shape))}) on "
                f"{manifold}. For degrees there are PointsData.from_lat_lon (globe) and from_angles (torus), for "
                "rotations from_quaternions and from_rotation_vectors."
            )
        x = x.reshape(-1, *shape)
        _check_points(manifold, x)
        self._manifold, self._points, self._context = manifold, manifold.projx(x), None
        if context is not None:
            c = _numbers(context, "context")
            self._context = c[:, None] if c.dim() == 1 else c
            if self._context.dim() != 2 or len(c) != len(x):
                raise ValueError(f"PointsData: found a context of shape {tuple(c.shape)}, expected ({len(x)}, c).")
        self._row_weights = None if weights is None else _weights(weights, len(x))
        names = tuple(f"c{k}" for k in range(0 if self._context is None else self._context.shape[1]))
        covariates = Covariates(names, [NumberFactor(names)], [names]) if names else None
        self._reading = Reading([CoordinateFactor(manifold)], covariates)

    @classmethod
    def of(
        cls, manifold: Manifold, points: ArrayLike | Tensor, context: ArrayLike | Tensor | None = None, **arguments: Any
    ) -> PointsData:
        """Points by their coordinates; of a DataFrame on the globe its latitudes and longitudes, degrees."""
        found = _find(Places({}), _names(points)) if manifold == Sphere(2) else None
        if found is None:
            return cls(manifold, points, context, **arguments)
        lat, lon = (points[points.columns[place]] for place in found.places)  # type: ignore[index, union-attr]
        return cls.from_lat_lon(lat, lon, context=context, **arguments)

    @classmethod
    def from_lat_lon(cls, lat: ArrayLike | Tensor, lon: ArrayLike | Tensor, **arguments: Any) -> PointsData:
        """Places on the globe, `Sphere(2)`, from latitudes (N,) and longitudes (N,) in degrees.

        Those of a DataFrame are ``PointsData.from_lat_lon(frame["lat"], frame["lon"])``.
        """
        _require_one_index(lat, lon, *arguments.values())
        x, y = _numbers(lat, "latitudes"), _numbers(lon, "longitudes")
        if x.dim() != 1 or x.shape != y.shape:
            found = f"{tuple(x.shape)} and {tuple(y.shape)}"
            raise ValueError(f"PointsData: found latitudes and longitudes of shape {found}, expected (N,) and (N,).")
        names = [name if isinstance(name := getattr(one, "name", None), str) else "" for one in (lat, lon)]
        choice, sky = _find(Places({}), names), on_the_sky(names)
        if choice is not None and choice.places == (1, 0):
            raise ValueError(
                f"PointsData: found latitudes called {names[0]!r} and longitudes called {names[1]!r}. Expected them "
                "the other way round: exchange them, or pass them without names, to_numpy()."
            )
        degrees, bad = torch.stack([x, y], 1), (x.abs() > 90) | (y < -180) | (y > 360)
        _refuse(bad, degrees, "latitudes and longitudes", "[-90, 90] and [-180, 360], degrees")
        if sky and like_hours(y.numpy()):
            raise ValueError(
                f"PointsData: all right ascensions are in [{y.min():.4g}, {y.max():.4g}]. Expected degrees, these may "
                "be hours: multiply them by 15, or pass degrees without names, to_numpy()."
            )
        if x.abs().max() <= math.pi / 2 and y.min() >= -math.pi:
            _warn_of_radians(degrees)
        data = cls(Sphere(2), from_lat_lon(degrees), **arguments)._given_as(PlaceFactor())
        data.earth = not sky
        return data

    @classmethod
    def from_angles(cls, degrees: ArrayLike | Tensor, **arguments: Any) -> PointsData:
        """Points of a torus of n circles, from angles (N, n) in degrees; the 360 that stands for none is refused.

        Columns of a DataFrame that `TorusData` leaves out by their names, such as ``resid``, are left out.
        """
        _require_one_index(degrees, *arguments.values())
        names = _names(degrees)
        if choice := _find(Angles({}, (), None, NO_ANGLES), names):
            names = [names[k] for k in choice.places]
            degrees = np.asarray(degrees)[:, choice.places]
        x = _table(degrees, "angles")
        _refuse((x.abs() > 360).any(1), x, "angles", "[-360, 360], degrees")
        if faults := no_angles(180.0, x.numpy()):
            k = min(faults)
            raise ValueError(
                f"PointsData: row {k} of angles (they count from 0): {faults[k]}. Leave such rows out, or write all "
                "angles of a column from -180 to 180 or from 0 to 360."
            )
        _warn_of_radians(x)
        if choice:
            refuse_times("PointsData", names, x.numpy())
        torus, names = Torus(x.shape[1]), tuple(f"angle{k}" for k in range(x.shape[1]))
        return cls(torus, torus.from_angles(x.deg2rad()), **arguments)._given_as(
            AngleFactor(names=names, from_zero=(False,) * len(names))
        )

    @classmethod
    def from_quaternions(cls, wxyz: ArrayLike | Tensor, **arguments: Any) -> PointsData:
        """Rotations from quaternions (N, 4), scalar part first, of length 1 to within a per cent.

        The columns of a DataFrame that are called as those of `RotationData` are taken by their names, in any order.
        """
        _require_one_index(wxyz, *arguments.values())
        found, names = _by_name(wxyz, Quaternions.roles, Rotations({})), _names(wxyz)
        if found is wxyz and any(map(_SCALAR.fullmatch, map(plain, names[1:]))):
            raise ValueError(
                f"PointsData: the columns {', '.join(names)} seem to have the scalar part behind. Expected it first, "
                "or columns called qw, qx, qy and qz in any order: rename them."
            )
        q = _table(found, "quaternions", 4)
        _refuse((q.norm(dim=1) - 1).abs() > 0.01, q, "quaternions", "the length 1")
        roles = Quaternions.roles
        data = cls(SpecialOrthogonal(), quaternion_to_matrix(q), **arguments)
        return data._given_as(RotationFactor(names=roles, roles=roles))

    @classmethod
    def from_rotation_vectors(cls, radians: ArrayLike | Tensor, **arguments: Any) -> PointsData:
        """Rotations from vectors (N, 3): about the vector, by its length, at most a turn, in radians.

        The columns of a DataFrame are taken by their names, as those of quaternions are.
        """
        _require_one_index(radians, *arguments.values())
        v = _table(_by_name(radians, RotationVectors.roles, Rotations({})), "rotation vectors", 3)
        _refuse(v.norm(dim=1) > 2.001 * math.pi, v, "rotation vectors", "a length of at most a turn, radians")
        if like_axes(v.norm(dim=1).numpy()):
            warnings.warn(
                "PointsData: all rotation vectors have length 1, one radian. Expected axes times their angles; these "
                "may be the axes alone.",
                stacklevel=2,
            )
        names = RotationVectors.roles
        data = cls(SpecialOrthogonal(), rotation_vector_to_matrix(v), **arguments)
        return data._given_as(RotationFactor(names=names, roles=names))

    @property
    @override
    def manifold(self) -> Manifold:
        return self._manifold

    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        """The points, with their context if there is one."""
        return self._points if self._context is None else (self._points, self._context)

    def rows(self) -> Split:
        """All points, not split."""
        return Split(self._points, self._context)

    @override
    def weights(self) -> Tensor | None:
        return self._row_weights

    @property
    @override
    def header(self) -> tuple[str, ...]:
        return self._reading.header

    @property
    @override
    def context_names(self) -> tuple[str, ...]:
        return () if self._reading.covariates is None else tuple(self._reading.covariates.names)

    def description(self) -> None:
        """None: a checkpoint does not hold the points."""

    def provenance(self) -> dict[str, Any]:
        """As the base class; the hash is that of the points."""
        sha256 = hashlib.sha256(self._points.numpy().tobytes()).hexdigest()
        return super().provenance() | {"source": "a Python program", "sha256": sha256}

    def _given_as(self, factor: Factor) -> PointsData:
        self._reading = replace(self._reading, factors=[factor])
        return self


def _weights(values: ArrayLike | Tensor, n: int) -> Tensor:
    w = _numbers(values, "weights")
    if w.shape != (n,):
        raise ValueError(f"PointsData: found weights of shape {tuple(w.shape)}, expected ({n},).")
    _refuse(w < 0, w, "weights", "numbers that are not negative")
    return w


def _names(frame: object) -> list[str]:
    """The names of the columns of a DataFrame; none of what has no names."""
    return [str(name) for name in getattr(frame, "columns", ())]


def _require_one_index(*given: object) -> None:
    """Rows of DataFrames and Series stand beside each other by their places, and pandas pairs them by their index."""
    indices = [one.index for one in given if getattr(one, "iloc", None) is not None]  # type: ignore[attr-defined]
    if any(not index.equals(indices[0]) for index in indices[1:]):
        raise ValueError(
            "PointsData: the rows of these DataFrames or Series have other indices, or another order. Expected one "
            "index: align them, other.loc[points.index], or pass them without, to_numpy()."
        )


def _find(wanted: Wanted, names: Sequence[str]) -> Choice | None:
    """The columns among names, None where they are not there."""
    try:
        return wanted.find(names) if names else None
    except ValueError as error:
        raise ValueError(
            f"PointsData: {error} A program has no options: rename, convert or choose the columns before, or pass them "
            "without names, frame.to_numpy()."
        ) from None


def _by_name(values: ArrayLike | Tensor, roles: Sequence[str], wanted: Wanted | None = None) -> ArrayLike | Tensor:
    """The columns of a DataFrame in the order of roles, where its names, or the letters x, y, z, say what they are."""
    names = _names(values)
    letters = Named({}, tuple(Column(role, role, "numbers") for role in roles), (tuple((role[-1],) for role in roles),))
    choice = (wanted and _find(wanted, names)) or (_find(letters, names) if len(roles) == 3 else None)
    if choice is None:
        if wanted and any(map(EULER.search, map(plain, names))):
            raise ValueError(
                f"PointsData: {', '.join(names)} name Euler angles. Expected {', '.join(roles)}: convert them, or pass "
                "them without names, frame.to_numpy()."
            )
        return values
    if set(choice.roles) != set(roles):
        raise ValueError(
            f"PointsData: the columns {', '.join(names[k] for k in choice.places)} are {', '.join(choice.roles)}. "
            f"Expected {', '.join(roles)}: choose those, or another way to make points."
        )
    return np.asarray(values)[:, [choice.places[choice.roles.index(role)] for role in roles]]


def _numbers(values: ArrayLike | Tensor, what: str) -> Tensor:
    """A copy (N, ...) in float64, of finite numbers; what a masked array masks is none."""
    try:
        if isinstance(values, Tensor):
            if values.is_complex():
                raise TypeError(f"they are {values.dtype}")
            x = values.detach().to_dense().to("cpu", torch.float64, copy=True)
        else:
            if isinstance(values, list | tuple) and any(isinstance(one, np.ma.MaskedArray) for one in values):
                values = np.ma.array(values)
            if isinstance(values, np.ma.MaskedArray):
                values = values.astype(np.float64).filled(np.nan)
            # as they are, of which those of dates with a zone would else be made numbers
            values = np.asarray(values)
            if values.dtype.kind in "cmM":
                raise TypeError(f"they are {values.dtype}")
            x = torch.from_numpy(np.array(values, dtype=np.float64))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"PointsData: the {what} are not all numbers: {error}.") from None
    if x.dim() < 1 or not x.numel():
        raise ValueError(f"PointsData: found {what} of shape {tuple(x.shape)}, expected a row for each point.")
    _refuse(~torch.isfinite(x.reshape(len(x), -1)).all(1), x, what, "finite numbers")
    return x


def _table(values: ArrayLike | Tensor, what: str, width: int | None = None) -> Tensor:
    """The same, (N, width)."""
    x = _numbers(values, what)
    if x.dim() != 2 or width not in (None, x.shape[1]):
        raise ValueError(f"PointsData: found {what} of shape {tuple(x.shape)}, expected (N, {width or 'n'}).")
    return x


def _refuse(bad: Tensor, rows: Tensor, what: str, expected: str) -> None:
    if bool(bad.any()):
        k = int(bad.long().argmax())
        raise ValueError(
            f"PointsData: {int(bad.sum())} of {len(rows)} rows of {what} are bad, first row {k} (they count from 0), "
            f"{rows[k].tolist()}. Expected {expected}."
        )


def _warn_of_radians(x: Tensor) -> None:
    if like_radians(x.numpy()):
        warnings.warn(
            f"PointsData: all numbers are in [{x.min():.4g}, {x.max():.4g}] and taken for degrees, as they should be; "
            "they look like radians.",
            stacklevel=4,
        )


def _check_points(manifold: Manifold, x: Tensor) -> None:
    def reason(rows: Tensor) -> str | None:
        return manifold.check_point_on_manifold(rows, explain=True, atol=_OFF, rtol=_OFF)[1]

    if reason(x) is not None:
        # the first row by halves: those before it are good together, those with it are not
        k = bisect.bisect_left(range(len(x)), True, key=lambda k: reason(x[: k + 1]) is not None)
        raise ValueError(
            f"PointsData: row {k} (they count from 0), {x[k].tolist()}, is not on {manifold}: {reason(x[k : k + 1])}. "
            "Correct it, or project the points with the manifold's projx."
        )
