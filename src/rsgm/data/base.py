"""Data on manifolds for Lightning: points, their parts, and where the numbers come from."""

# Annotations are not postponed: a data set is a dataclass and inherits these, and the parser that resolves the
# annotations of a class does not look into the modules of its bases for their names.

import hashlib
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor

from rsgm.arguments import require_count
from rsgm.data.loaders import Batch, EvalLoader, TrainLoader
from rsgm.data.names import Column, Named, Wanted, plain
from rsgm.data.splits import PARTS, Split, draw_rows, split_rows
from rsgm.data.tables import read_table
from rsgm.description import describe
from rsgm.distributions import EuclideanLaw
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.seeding import generator_from

#: share of the spread of a coordinate beyond which the steps of single precision are too coarse for it
_COARSE = 1e-2

#: most training points that a checkpoint keeps
_KEPT = 1000


class Rows(NamedTuple):
    """Rows of a file as they are, and what they are.

    Fields:
        header: names of the columns
        cells: of the rows, as text
        points: ``(N, *shape)``, float64
        context: ``(N, c)``, or None
    """

    header: Sequence[str]
    cells: Sequence[list[str]]
    points: Tensor
    context: Tensor | None


@dataclass(kw_only=True, eq=False, repr=False)
class ManifoldData(LightningDataModule, ABC):
    """Points on a manifold, split 80/10/10. A subclass says what `manifold` is and returns `points`.

    A subclass is a dataclass too, whose further arguments are its fields and whose checks are its ``__post_init__``.

    Loaders yield ``(x, context)``, with context None for unconditional data. None survives Lightning's
    transfer to the device, but not its guess of the batch size: log with ``batch_size=len(x)``. Training
    batches are float32, validation and test batches float64. Arguments are kept under their own names, and
    are all it takes to build the same splits again.

    Arguments:
        batch_size: points of one training batch, all processes together
        split: ``random`` permutes the rows by the seed; ``location`` keeps all rows of one place in one part
        seed: of the split and of the training batches; None is 0, or the run's seed on the command line
        steps_per_epoch: training batches that Lightning calls an epoch
        eval_batch_size: most points of a validation or test batch, all processes together
        val_points: at most so many validation points are scored during training, a fixed draw by the seed; None is
            all. What is fitted in one pass, such as the kernel density, sees all of them.

    Raises:
        ValueError: a size that is not positive
    """

    batch_size: int = 512
    split: str = "random"
    seed: int | None = None
    steps_per_epoch: int = 500
    eval_batch_size: int = 512
    val_points: int | None = None

    train: Split = field(init=False)
    val: Split = field(init=False)
    test: Split = field(init=False)

    #: the values of `split`
    protocols: ClassVar[tuple[str, ...]] = ("random", "location")
    #: the law on flat space that samples can be held against, where there is one
    reference_law: ClassVar[EuclideanLaw | None] = None
    #: whether training batches are fresh draws without end, rather than rows of `train`
    fresh: ClassVar[bool] = False
    #: grey levels K of the numbers of a picture, which are served as (k + u) / K with uniform u
    levels: ClassVar[int | None] = None
    #: channels, height and width of a picture, of which a point is the flattened form
    image_shape: ClassVar[tuple[int, int, int] | None] = None
    #: whether the points are places on the Earth, whose coasts a map of them shows
    earth: ClassVar[bool] = False
    #: shares of the law that the regions of highest density of pictures hold
    coverages: ClassVar[tuple[float, ...]] = (0.5, 0.9)

    def __post_init__(self) -> None:
        super().__init__()
        self.seed = self.seed or 0
        names = ["batch_size", "steps_per_epoch", "eval_batch_size", *["val_points"] * (self.val_points is not None)]
        require_count(type(self).__name__, **{name: getattr(self, name) for name in names})
        self._parts: list[Tensor] = []  # rows of train, val and test, once set up
        self._weights: Tensor | None = None

    def __str__(self) -> str:
        """Its class; Lightning's would set the data up, and make every loader."""
        return repr(self)

    @property
    @abstractmethod
    def manifold(self) -> Manifold:
        """Where the points lie."""

    @abstractmethod
    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        """All points ``(N, *shape)``, float64, on the manifold; with their context (N, c) if there is one."""

    # ---- what a subclass may say otherwise

    def weights(self) -> Tensor | None:
        """What each point counts (N,), float64, not negative; None where all count the same."""
        return None

    def locations(self, x: Tensor) -> Tensor:
        """Labels (N,): rows that are one place, the same point of the manifold, share a label; see `label_places`."""
        return label_places(x)

    def groups(self, locations: Tensor) -> Tensor:
        """Labels (N,) by the protocol `split`: rows that share a label stay in one part."""
        if self.split == "random":
            return torch.arange(len(locations))
        if self.split == "location":
            return locations
        expected = " or ".join(self.protocols)
        raise ValueError(f"{type(self).__name__}: unknown split {self.split!r}; expected {expected}.")

    def sizes(self, n: int) -> tuple[int, int]:
        """Rows of train and val, of ``n``; test gets the rest."""
        return n * 8 // 10, n // 10

    def parts(self) -> list[Tensor]:
        """Rows of train, val and test, by the protocol `split`."""
        groups = self.groups(self._locations)
        return split_rows(groups, self.sizes(len(groups)), generator_from("split", self.seed))

    def batch(self, generator: torch.Generator, n: int) -> Batch:
        """``n`` training rows drawn with replacement, in proportion to their weights.

        A mean over such rows is the weighted mean in expectation, so every loss is weighted by drawing. A stream of
        fresh points overrides this method.
        """
        x, context = self.train.rows(draw_rows(n, len(self.train.points), self.part_weights("train"), generator))
        return x, context

    def fresh_points(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` points, without contexts, as a perfect model would draw them: they know nothing of the test part.

        Where the law of the data is known they are its draws, else rows of `train`, each at most once; there may be
        fewer.
        """
        return self.train.points[self._drawn("train", generator)[:n]]

    def reference_points(self) -> Tensor:
        """Points of the test part that are distributed as the data say: all, or, where they have weights, some."""
        if self.part_weights("test") is None:
            return self.test.points
        return self.test.points[self._drawn("test", generator_from("test points"))]

    def _drawn(self, name: str, generator: torch.Generator) -> Tensor:
        """Rows of a part in a random order, those with weights each kept in proportion: draws of the weighted law."""
        weight = self.part_weights(name)
        order = torch.randperm(len(getattr(self, name).points), generator=generator)
        if weight is None:
            return order
        return order[torch.rand(len(order), generator=generator, dtype=torch.float64) * weight.max() < weight[order]]

    def true_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor | None:
        """Exact log-density (B,) of the law that the data were drawn from, nats, where it is known."""
        return None

    def description(self) -> dict[str, Any] | None:
        """What a checkpoint says of the data, so that they can be built again from it alone; None where they cannot."""
        return describe(self)

    def reading(self) -> dict[str, Any] | None:
        """What a file said of its columns, as plain data; None where there is nothing to say."""
        return None

    def recall(self, record: dict[str, Any]) -> None:
        """Take up a `record`: points and contexts are read and written without the file, whatever has become of it.

        The training part is then the points of it that the record has kept; the others are empty.
        """
        self.train = Split(**record["reference"])
        self._locations = torch.arange(len(self.train.points))
        self._parts = [self._locations, self._locations[:0], self._locations[:0]]
        self.val = self.test = self.train.rows(self._parts[1])

    @property
    def title(self) -> str:
        """What the data are called."""
        return type(self).__name__

    @property
    def context_names(self) -> tuple[str, ...]:
        """What a context says of a point, by name; empty where there is none."""
        return ()

    def encode_context(self, cells: Mapping[str, Sequence[str]]) -> Tensor:
        """Contexts (N, c), float64, of what is known of N points, as text, by the names of `context_names`."""
        raise ValueError(f"{type(self).__name__}: the data have no context, found {', '.join(cells)}.")

    def decode_context(self, context: Tensor) -> list[tuple[str, ...]]:
        """What contexts (N, c) say, as text in the order of `context_names`: the inverse of `encode_context`."""
        return [()] * len(context)

    def log_unit(self, x: Tensor) -> Tensor:
        """What turns the log-densities of points by the manifold's volume into those by the units of `to_units`, to be
        added, (B,): zero but where numbers are standardised, whose density is one by their own unit then."""
        return torch.zeros(len(x), dtype=torch.float64)

    def read_rows(self, path: str | Path, skip_bad: bool = False) -> Rows:
        """The rows of a file whose columns are those of `header` and `context_names`.

        Arguments:
            path: the file; without names it holds the columns of points, in their order
            skip_bad: leave out rows that are bad, with a warning

        Raises:
            ValueError: bad rows, which are named by line
        """
        table = read_table(Path(path).expanduser(), self.wanted, self.context_names, skip_bad=skip_bad)
        context = self.encode_context(table.beside) if self.context_names else None
        return Rows(table.header or self.header, table.cells, self.from_units(table.values), context)

    @property
    def wanted(self) -> Wanted:
        """The columns of `header`, as `read_rows` looks for them."""
        columns = tuple(Column(name, name, "numbers") for name in self.header)
        return Named({}, columns, (tuple((plain(name).replace("_", ""),) for name in self.header),))

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `to_units`."""
        return tuple(f"x{k}" for k in range(int(np.prod(self.manifold.shape))))

    def to_units(self, x: Tensor) -> NDArray[np.float64]:
        """Points ``(B, *shape)`` in data units (B, columns)."""
        return x.detach().double().flatten(1).cpu().numpy()

    def from_units(self, values: NDArray[np.float64]) -> Tensor:
        """The points ``(B, *shape)``, float64, of rows (B, columns) in data units: what `to_units` was given."""
        return torch.from_numpy(values).reshape(-1, *self.manifold.shape)

    # ---- splits

    def setup(self, stage: str | None = None) -> None:
        """Make `train`, `val` and `test`, the same for every stage and process."""
        if self._parts:
            return
        points = self.points()
        x, context = points if isinstance(points, tuple) else (points, None)
        everything, self._weights = Split(x, context), self.weights()
        if self._weights is not None and not bool(torch.isfinite(self._weights.sum())):
            raise ValueError("The weights add up to more than a number holds. Expected a finite sum: divide them.")
        self._locations = self.locations(everything.points)
        self._parts = self.parts()
        self.train, self.val, self.test = map(everything.rows, self._parts)
        for name in PARTS:
            if (weight := self.part_weights(name)) is not None and not bool(weight.any()):
                raise ValueError(f"All weights of the {name} part are zero. Expected some that are positive.")
        self._warn_of_rounding(self.train.points)

    def _warn_of_rounding(self, points: Tensor) -> None:
        """Networks see points in single precision, which far from the origin does not tell them apart."""
        if points.is_floating_point() and math.isinf(self.manifold.log_volume):
            size, spread = points.abs().flatten(1).amax(0), points.flatten(1).std(0, correction=0)
            k = int((size / spread.clamp_min(torch.finfo(spread.dtype).tiny) * (spread > 0)).argmax())
            step = float(size[k]) * torch.finfo(torch.float32).eps
            if step > _COARSE * float(spread[k]) > 0:
                warnings.warn(
                    f"Coordinate {k} of the points is as large as {float(size[k]):.4g} and varies by "
                    f"{float(spread[k]):.4g}; networks see it in single precision, in steps of {step:.2g}. Subtract "
                    "its mean, or read the points as TableData, which standardises numbers.",
                    stacklevel=3,
                )

    def part_weights(self, name: str) -> Tensor | None:
        """What each point of ``train``, ``val`` or ``test`` counts (N,), float64; None where all count the same."""
        self.setup()
        return None if self._weights is None else self._weights[self._parts[PARTS.index(name)]]

    def weights_to_fit(self) -> tuple[Tensor, Tensor] | None:
        """The weights of train and val; None where all points count the same."""
        train, val = self.part_weights("train"), self.part_weights("val")
        return None if train is None or val is None else (train, val)

    def twins(self) -> Tensor:
        """Which test points are the same place as a train point: bool (N_test,)."""
        self.setup()
        train, _, test = (self._locations[part] for part in self._parts)
        return torch.isin(test, train)

    def test_places(self) -> Tensor:
        """Labels (N_test,) of the places of the test points, over which standard errors are counted."""
        self.setup()
        return self._locations[self._parts[2]]

    def test_names(self) -> list[str]:
        """What each test point is called: its row, from 0; of tables the line where it begins."""
        self.setup()
        return [f"row {row}" for row in self._parts[2].tolist()]

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from, as plain data for ``metrics.json``."""
        twins = self.twins()
        return {
            "name": self.title,
            "source": None,
            "sha256": None,
            "rows": len(self._locations),
            "distinct_rows": len(self._locations.unique()),
            "split": {
                "protocol": self.split,
                "seed": self.seed,
                "sizes": dict(zip(PARTS, map(len, self._parts), strict=True)),
                "val_points": len(self._scored("val")),
                "twin_share": twins.double().mean().item(),
            },
        }

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps of the data: how they are built again, what the file said of its columns, and some
        training points, against which others are ranked and whose contexts samples can have."""
        self.setup()
        kept = None
        if self.image_shape is None:
            n, weight = len(self.train.points), self.part_weights("train")
            generator = generator_from("reference", self.seed)
            rows = torch.randperm(n, generator=generator) if weight is None else draw_rows(n, n, weight, generator)
            kept = self.train.rows(rows[:_KEPT])._asdict()
        described = {"data": self.description(), "reading": self.reading(), "reference": kept}
        return described | {"fingerprint": self.fingerprint}

    @cached_property
    def fingerprint(self) -> str:
        """Equal where train, val and test hold the same points, to 1e-6: hexadecimal digits."""
        self.setup()
        parts = [part.points.mul(1e6).round().long() for part in (self.train, self.val, self.test)]
        return hashlib.sha256(b"\0".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]

    # ---- loaders

    def train_batch(self, step: int, micro_step: int = 0) -> Batch:
        """The global training batch, float32, at a position; see `TrainLoader`."""
        self.setup()
        x, context = self.batch(generator_from("batch", self.seed, step, micro_step), self.batch_size)
        return _single(x), None if context is None else _single(context)

    def train_dataloader(self) -> TrainLoader:
        """Batches by position, this process's share of each.

        Raises:
            ValueError: a batch that the processes cannot share equally
        """
        self.setup()
        rank, world_size = self._process()
        if self.batch_size % world_size:
            raise ValueError(
                f"batch_size={self.batch_size} is the batch of all processes together, and {world_size} of "
                f"them cannot share it equally: choose a multiple of {world_size}."
            )
        trainer = self.trainer
        step = None if trainer is None else lambda: trainer.global_step
        return TrainLoader(self.train_batch, self.steps_per_epoch, step, rank, world_size)

    def val_dataloader(self) -> EvalLoader:
        """The validation points once, in order, or `val_points` of them."""
        return self._eval_loader("val")

    def test_dataloader(self) -> EvalLoader:
        """The test points once, in order."""
        return self._eval_loader("test")

    def _eval_loader(self, name: str) -> EvalLoader:
        self.setup()
        rows, weight = self._scored(name), self.part_weights(name)
        part = getattr(self, name).rows(rows)
        rank, world_size = self._process()
        n = len(rows)
        if n < world_size:
            raise ValueError(f"{n} {name} points are too few for {world_size} processes: use at most {n}.")
        # equal numbers of batches, none empty, on every process: a collective call per batch cannot deadlock
        count = max(1, min(-(-n // self.eval_batch_size), n // world_size))
        share = torch.arange(rank, n, world_size).tensor_split(count)
        batches = [tuple(part.rows(some)) for some in share]
        if weight is not None:
            # the mean of all batches, each by its size, is the weighted mean
            weight = weight[rows] / weight[rows].mean()
            batches = [(*batch, weight[some]) for batch, some in zip(batches, share, strict=True)]
        return EvalLoader(batches)

    def _scored(self, name: str) -> Tensor:
        """The rows of a part that are scored during training."""
        n = len(getattr(self, name).points)
        if name != "val" or self.val_points is None or self.val_points >= n:
            return torch.arange(n)
        drawn = torch.randperm(n, generator=generator_from("val_points", self.seed))[: self.val_points]
        return drawn.sort().values

    def _process(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _single(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x
