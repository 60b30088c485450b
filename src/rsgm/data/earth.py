"""Events on the Earth's surface, or on the sky, from a CSV of latitudes and longitudes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.data.factors import Factor
from rsgm.data.names import half_turn
from rsgm.data.places import PlaceFactor, on_the_sky
from rsgm.data.tabular import Tabular
from rsgm.manifolds import Manifold, Sphere
from rsgm.seeding import generator_from


@dataclass(eq=False, repr=False)
class EarthData(Tabular):
    r"""Events on the sphere :math:`S^2`, :math:`x = (\cos\phi\cos\lambda, \cos\phi\sin\lambda, \sin\phi)`.

    The four sets of Mathieu and Nickel (2020, arXiv:2006.10605), the Smithsonian list of volcanoes
    (``gvp``), or a CSV of one's own. Where the files are looked for: `rsgm.data.sources.locate` and
    ``data/README.md``.

    Arguments:
        name: the named set
        path: a table of one's own (columns lat or latitude, and lon, lng, long or longitude, in any order among
            others; on the sky dec and ra; or two columns lat,lon without a header), or the folder or file of the named
            set
        split: ``random`` permutes the rows, as the papers do, and leaks: 85 % of the volcano test points are
            also train points; ``location`` keeps all rows of one location in one part, ``block`` all rows of
            one 1 x 1 degree cell; ``time`` and ``group`` as of `Tabular`
        dedup: keep only the first row of each place
        dequantize_deg: width of a von Mises-Fisher jitter of all points, degrees; 0 for none. Twins and
            groups are those of the file's points.
        columns: the names of ``lat`` and ``lon`` in a file that calls them otherwise, such as ``{lat: y, lon: x}``
        numbers, log, context, categories, weight, time, group, val, test, skip_rows, skip_bad: see `Tabular`
        unit: of a file of one's own; None is degrees, and refuses numbers that look like radians
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)

    Example:
        >>> data = EarthData("flood", split="location", seed=1)
        >>> data.setup()  # doctest: +SKIP
        >>> len(data.train.points)  # doctest: +SKIP
        3900
    """

    name: Literal["volcano", "earthquake", "flood", "fire", "gvp"] = "volcano"
    path: str | None = None
    _: KW_ONLY
    split: Literal["random", "location", "block", "time", "group"] = "random"
    dequantize_deg: float = 0.0

    protocols = ("random", "location", "block", "time", "group")

    def __post_init__(self) -> None:
        super().__post_init__()
        if strange := set(self.columns or ()) - {"lat", "lon"}:
            raise ValueError(f"EarthData: columns names {', '.join(sorted(strange))}, expected lat and lon.")
        width = self.dequantize_deg
        if not 0 <= width < math.inf:
            raise ValueError(f"EarthData: dequantize_deg must not be negative, and finite, found {width}.")
        if width and self.numbers:
            raise ValueError("EarthData: dequantize_deg is for places alone; leave it out, or the numbers.")

    @property
    @override
    def manifold(self) -> Manifold:
        """Known without the file, but for numbers."""
        return super().manifold if self.numbers else Sphere(2)

    @property
    def earth(self) -> bool:  # type: ignore[override]
        """Whether there are coasts: not of declinations and right ascensions."""
        return not on_the_sky(self.header[:2])

    @override
    def factors_in_file(self) -> Sequence[Factor]:
        return [PlaceFactor(self.columns, self.unit)]

    @override
    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        found = super().points()
        if not self.dequantize_deg:
            return found
        x, *context = found if isinstance(found, tuple) else (found,)
        width = torch.tensor(math.radians(self.dequantize_deg), dtype=x.dtype)
        x = self.manifold.bump_sample(x, width, generator_from("dequantize", self.seed))
        return (x, *context) if context else x

    def groups(self, locations: Tensor) -> Tensor:
        """As the base class; ``block`` labels the 1 x 1 degree cells."""
        if self.split != "block":
            return super().groups(locations)
        row, column = np.floor(self.rows.values[:, :2] * (180 / half_turn(self.unit))).astype(np.int64).T
        cells = np.minimum(row, 89) * 360 + column
        # a place on the edge of two cells, as a pole is, belongs to that of its first row
        return torch.from_numpy(cells[np.unique(locations, return_index=True)[1]])[locations]

    def provenance(self) -> dict[str, Any]:
        """As the base class, with the jitter."""
        return super().provenance() | {"dequantize_deg": self.dequantize_deg}
