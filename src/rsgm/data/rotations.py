"""Numbers that are a rotation: quaternions, rotation vectors, matrices, and what their columns are called."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.data.names import (
    Choice,
    Column,
    Floats,
    Unit,
    Wanted,
    from_radians,
    half_turn,
    only,
    places_of,
    plain,
    to_radians,
)
from rsgm.manifolds.so3 import (
    SpecialOrthogonal,
    matrix_to_quaternion,
    matrix_to_rotation_vector,
    quaternion_to_matrix,
    rotation_vector_to_matrix,
)

_TOLERANCE = 0.01  # of lengths and of orthogonality: numbers of two digits
_QUATERNION = re.compile(r"(?:^|_)(?:q|rot|ori|att|attitude)(?:_|$)|quat|orientation|rotation")
_VECTOR = re.compile(r"r|(?:.*_)?(?:rot|rv|rvec|rot_?vec|rotation_?vector)")
_MATRIX = re.compile(r"(?:.*_)?(?:r|m|t|rot|mat|matrix|pose|transform|rot_?mat|rotation|rotation_?matrix)")
#: Euler angles, which are no rotation vectors
EULER = re.compile(r"euler|(?:^|_)(?:roll|pitch|yaw)(?:_|$)")
#: letters of the components, scalar first, and numbers
_QUATERNIONS = ("wxyz", "sxyz", "rijk", "wijk", "0123", "1234")


class Layout(ABC):
    """Columns whose numbers are a rotation."""

    roles: ClassVar[tuple[str, ...]]
    title: ClassVar[str]

    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """What they are."""

    @abstractmethod
    def faults(self, values: Floats) -> dict[int, str]:
        """What is wrong with rows (N, columns), by row."""

    @abstractmethod
    def matrices(self, values: Floats) -> Tensor:
        """Rotations (N, 3, 3) of rows."""

    @abstractmethod
    def numbers(self, x: Tensor) -> Floats:
        """Rows of rotations."""


Found = tuple[Layout, Mapping[str, Sequence[int]]]  # where each role may be


@dataclass(frozen=True)
class Quaternions(Layout):
    """Unit quaternions; samples have a scalar part that is not negative."""

    roles = ("qw", "qx", "qy", "qz")
    title = "quaternions"

    @override
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(role, role, "unit quaternions", -1 - _TOLERANCE, 1 + _TOLERANCE) for role in self.roles)

    def faults(self, values: Floats) -> dict[int, str]:
        """Of another length than 1."""
        lengths = np.linalg.norm(values, axis=1)
        wrong = np.flatnonzero(np.abs(lengths - 1) > _TOLERANCE)
        return {int(k): f"a quaternion of length {lengths[k]:.4g}, expected 1" for k in wrong}

    @override
    def matrices(self, values: Floats) -> Tensor:
        return quaternion_to_matrix(torch.from_numpy(values))

    @override
    def numbers(self, x: Tensor) -> Floats:
        return matrix_to_quaternion(x).numpy()


@dataclass(frozen=True)
class RotationVectors(Layout):
    """Axes times angles; those of samples are at most half a turn long.

    Arguments:
        unit: of the angles; None is radians
    """

    unit: Unit | None = None

    roles = ("rx", "ry", "rz")
    title = "rotation vectors"

    def columns(self) -> tuple[Column, ...]:
        """As the base class; what is too long is told by the length."""
        return tuple(Column(role, role, self._unit) for role in self.roles)

    def faults(self, values: Floats) -> dict[int, str]:
        """Longer than a turn; or all of length 1, which axes are whose angle stands in a column of its own."""
        turn, lengths = 2 * half_turn(self._unit), np.linalg.norm(values, axis=1)
        if self.unit is None and like_axes(lengths):
            return dict.fromkeys(
                range(len(lengths)),
                "a rotation vector of length 1, as all are: an axis? Multiply each by its angle; --data.unit=radians "
                "reads them as they are",
            )
        other = "radians" if self._unit == "degrees" else "degrees"
        wrong = np.flatnonzero(lengths > turn * 1.001)
        return {
            int(k): f"a rotation vector of length {lengths[k]:.4g}, longer than a turn, {turn:.4g}"
            + f": degrees? --data.unit={other} reads them, but Euler angles are none" * (other == "degrees")
            for k in wrong
        }

    @override
    def matrices(self, values: Floats) -> Tensor:
        return rotation_vector_to_matrix(torch.from_numpy(to_radians(values, self._unit)))

    @override
    def numbers(self, x: Tensor) -> Floats:
        return from_radians(matrix_to_rotation_vector(x).numpy(), self._unit)

    @property
    def _unit(self) -> Unit:
        return self.unit or "radians"


def like_axes(lengths: Floats) -> bool:
    """Whether vectors of these lengths (N,) look like axes of rotations, without their angles."""
    return bool(len(lengths) >= 10 and np.abs(lengths - 1).max() <= _TOLERANCE)


@dataclass(frozen=True)
class Matrices(Layout):
    """Rotation matrices, by row and column; those of a file are made orthogonal."""

    roles = tuple(f"r{i}{j}" for i in "123" for j in "123")
    title = "rotation matrices"

    @override
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(r, r, "rotation matrices", -1 - _TOLERANCE, 1 + _TOLERANCE) for r in self.roles)

    def faults(self, values: Floats) -> dict[int, str]:
        """Not orthogonal, or a reflection."""
        x = values.reshape(-1, 3, 3)
        off, det = np.abs(x @ x.swapaxes(1, 2) - np.eye(3)).max((1, 2)), np.linalg.det(x)
        wrong = np.flatnonzero((off > 2 * _TOLERANCE) | (det < 0))
        return {
            int(k): f"a matrix that is {off[k]:.4g} off orthogonal, with determinant {det[k]:.4g}, expected a rotation"
            for k in wrong
        }

    @override
    def matrices(self, values: Floats) -> Tensor:
        return SpecialOrthogonal().projx(torch.from_numpy(values).reshape(-1, 3, 3))

    @override
    def numbers(self, x: Tensor) -> Floats:
        return x.flatten(1).numpy()


@dataclass(frozen=True)
class Rotations(Wanted):
    """Columns that are a rotation, of whatever kind: by full names, else quaternions called w, x, y, z.

    Arguments:
        order: of the components of quaternions without names, or with numbers
        unit: of rotation vectors
    """

    order: Literal["wxyz", "xyzw"] | None = None
    unit: Unit | None = None

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """All kinds."""
        return Quaternions(), RotationVectors(self.unit), Matrices()

    @property
    @override
    def expected(self) -> str:
        return (
            "a header with one column of qw, w and one of qx, x and so on (quaternions), with rx, ry, rz (rotation "
            "vectors) or with r11 to r33 (matrices); or three columns of rotation vectors, or four of quaternions; "
            "Euler angles are not read"
        )

    @override
    def known(self) -> Sequence[str]:
        return [role for layout in self.layouts for role in layout.roles]

    @override
    def find(self, names: Sequence[str]) -> Choice | None:
        if self.given:
            given = {role: places_of(names, name) for role, name in self.given.items()}
            layout = next((one for one in self.layouts if set(one.roles) == given.keys()), None)
            return None if layout is None or not all(given.values()) else self._choice(names, layout, given)
        texts = ["" if "euler" in text else text for text in map(plain, names)]
        found = [*self._quaternions(texts), *self._vectors(texts), *self._matrices(texts)]
        if not found:
            short = {f"q{c}": [k for k, text in enumerate(texts) if text == c] for c in "wxyz"}
            found = [(Quaternions(), short)] * all(short.values())
        if not found and "" in texts and (angles := [repr(name) for name in names if "euler" in plain(name)]):
            raise ValueError(
                f"{', '.join(angles)} name Euler angles, which are not read. Convert them, as with SciPy: "
                "Rotation.from_euler('xyz', angles).as_quat() has the columns qx,qy,qz,qw."
            )
        if len(found) > 1:
            kinds = "; ".join(
                f"{kind.title} {', '.join(names[v[0]] for v in places.values())}" for kind, places in found
            )
            raise ValueError(
                f"the columns name more than one rotation, {kinds}. Choose with "
                "--data.columns='{qw: NAME, qx: NAME, qy: NAME, qz: NAME}', or rx, ry, rz or r11 to r33."
            )
        return self._choice(names, *found[0]) if found else None

    def nameless(self, width: int) -> Choice | None:
        """Three columns are rotation vectors, four are quaternions in the order that is given."""
        if width == 4 and self.order is None:
            self._refuse_order("4 columns without a header")
        roles = {3: RotationVectors.roles, 4: tuple(f"q{c}" for c in self.order or ())}.get(width)
        if roles is None:
            return None
        layout = next(one for one in self.layouts if set(one.roles) == set(roles))
        return self._choice(roles, layout, {role: [k] for k, role in enumerate(roles)})

    def _quaternions(self, texts: Sequence[str]) -> Iterator[Found]:
        for prefix, places in _by_prefix(texts, r"(.*?)_?\[?([wxyzsrijk]|\d+)\]?", _QUATERNION.search).items():
            letters = next((some for some in _QUATERNIONS if _has(places, some)), None)
            if letters is None:
                continue
            order = self.order if letters.isdigit() else None
            if letters == "1234" or (letters == "0123" and prefix != "q"):
                order = order or self._refuse_order(f"columns {prefix}{letters[0]} to {prefix}{letters[3]}")
            yield Quaternions(), {f"q{c}": places[a] for c, a in zip(order or "wxyz", letters, strict=True)}

    def _vectors(self, texts: Sequence[str]) -> Iterator[Found]:
        for prefix, places in _by_prefix(texts, r"(.*?)_?\[?([wxyz]|\d+)\]?", _VECTOR.fullmatch).items():
            if any(_has(places, some) for some in _QUATERNIONS):
                continue
            for letters in ("xyz", "012", "123")[: 1 if prefix == "r" else 3]:
                if _has(places, letters):
                    yield RotationVectors(self.unit), {f"r{c}": places[a] for c, a in zip("xyz", letters, strict=True)}
                    break

    def _matrices(self, texts: Sequence[str]) -> Iterator[Found]:
        for places in _by_prefix(texts, r"(.*?)[_\[(]*([0-4][_,\]\[)(]*[0-4])[_\])]*", _MATRIX.fullmatch).values():
            places = {re.sub(r"\D", "", index): where for index, where in places.items()}
            # of four by four, which may count from 0, the rotation comes first
            numbers = "012" if any("0" in index for index in places) else "123"
            index = [i + j for i in numbers for j in numbers]
            if all(i in places for i in index):
                yield Matrices(), {role: places[i] for role, i in zip(Matrices.roles, index, strict=True)}

    def _refuse_order(self, found: str) -> NoReturn:
        raise ValueError(
            f"{found}: is the scalar part first or last? --data.order=wxyz or xyzw says so, or a header with "
            "qw,qx,qy,qz in the file's order."
        )

    def _choice(self, names: Sequence[str], layout: Layout, found: Mapping[str, Sequence[int]]) -> Choice:
        columns = layout.columns()
        places = only(names, columns, [found[column.role] for column in columns])
        order = sorted(range(len(columns)), key=places.__getitem__)  # of the file
        listed = ", ".join(names[places[k]] for k in order)
        if self.order not in (None, "".join(columns[k].role[1] for k in order)):
            raise ValueError(f"order says {self.order}, and the columns are {listed}: leave it out.")
        if self.unit is not None and columns[0].unit != self.unit:
            raise ValueError(f"unit is that of rotation vectors, and the columns are {layout.title}, {listed}.")
        return Choice(
            tuple(columns[k] for k in order),
            tuple(places[k] for k in order),
            lambda values: layout.faults(values[:, np.argsort(order)]),
        )


def _has(places: Mapping[str, object], letters: str) -> bool:
    """Whether there are all components; of numbers there are no others, as of the nine of a matrix."""
    return places.keys() >= set(letters) and (not letters.isdigit() or set(filter(str.isdigit, places)) == set(letters))


def _by_prefix(texts: Sequence[str], pattern: str, fits: Callable[[str], object]) -> dict[str, dict[str, list[int]]]:
    """Places of the names that are a prefix that fits and an index: by prefix, then by index."""
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for k, text in enumerate(texts):
        match = re.fullmatch(pattern, text)
        if match and fits(match[1]):
            found[match[1]][match[2]].append(k)
    return found
