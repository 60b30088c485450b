"""Data on manifolds for Lightning: points, their parts, and where the numbers come from."""

# Annotations are not postponed: a data set is a dataclass and inherits these, and the parser that resolves the
# annotations of a class does not look into the modules of its bases for their names.

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor

from rsgm.data.loaders import Batch, EvalLoader, TrainLoader
from rsgm.data.splits import PARTS, Split, split_rows
from rsgm.description import describe
from rsgm.distributions import EuclideanLaw
from rsgm.distributions.checks import require_count
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.seeding import generator_from


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

    def __post_init__(self) -> None:
        super().__init__()
        self.seed = self.seed or 0
        names = ["batch_size", "steps_per_epoch", "eval_batch_size", *["val_points"] * (self.val_points is not None)]
        require_count(type(self).__name__, **{name: getattr(self, name) for name in names})
        self._parts: list[Tensor] = []  # rows of train, val and test, once set up

    def __str__(self) -> str:
        """Its class; Lightning's would set the data up, and make every loader."""
        return repr(self)

    @property
    @abstractmethod
    def manifold(self) -> Manifold:
        """Where the points lie."""

    @abstractmethod
    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        """All points (N, *shape), float64, on the manifold; with their context (N, c) if there is one."""

    # ---- what a subclass may say otherwise

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
        """``n`` training rows drawn with replacement; a stream of fresh points overrides this method."""
        x, context = self.train.rows(torch.randint(len(self.train.points), (n,), generator=generator))
        return x, context

    def fresh_points(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` points, without contexts, as a perfect model would draw them: they know nothing of the test part.

        Where the law of the data is known they are its draws, else rows of `train`, each at most once; there may be
        fewer.
        """
        order = torch.randperm(len(self.train.points), generator=generator)
        return self.train.points[order[:n]]

    def true_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor | None:
        """Exact log-density (B,) of the law that the data were drawn from, nats, where it is known."""
        return None

    def description(self) -> dict[str, Any] | None:
        """What a checkpoint says of the data, so that they can be built again from it alone; None where they cannot."""
        return describe(self)

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `to_units`."""
        return tuple(f"x{k}" for k in range(int(np.prod(self.manifold.shape))))

    def to_units(self, x: Tensor) -> NDArray[np.float64]:
        """Points (B, *shape) in data units (B, columns)."""
        return x.detach().double().flatten(1).cpu().numpy()

    def from_units(self, values: NDArray[np.float64]) -> Tensor:
        """The points (B, *shape), float64, of rows (B, columns) in data units: what `to_units` was given."""
        return torch.from_numpy(values).reshape(-1, *self.manifold.shape)

    # ---- splits

    def setup(self, stage: str | None = None) -> None:
        """Make `train`, `val` and `test`, the same for every stage and process."""
        if self._parts:
            return
        points = self.points()
        everything = Split(*points) if isinstance(points, tuple) else Split(points)
        self._locations = self.locations(everything.points)
        self._parts = self.parts()
        self.train, self.val, self.test = (everything.rows(part) for part in self._parts)

    def twins(self) -> Tensor:
        """Which test points are the same place as a train point: bool (N_test,)."""
        self.setup()
        train, _, test = (self._locations[part] for part in self._parts)
        return torch.isin(test, train)

    def test_places(self) -> Tensor:
        """Labels (N_test,) of the places of the test points, over which standard errors are counted."""
        self.setup()
        return self._locations[self._parts[2]]

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from, as plain data for ``metrics.json``."""
        twins = self.twins()
        return {
            "name": type(self).__name__,
            "source": None,
            "sha256": None,
            "rows": len(self._locations),
            "distinct_rows": len(self._locations.unique()),
            "split": {
                "protocol": self.split,
                "seed": self.seed,
                "sizes": dict(zip(PARTS, map(len, self._parts), strict=True)),
                "val_points": len(self._scored("val").points),
                "twin_share": twins.double().mean().item(),
            },
        }

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
        part = self._scored(name)
        rank, world_size = self._process()
        n = len(part.points)
        if n < world_size:
            raise ValueError(f"{n} {name} points are too few for {world_size} processes: use at most {n}.")
        # equal numbers of batches, none empty, on every process: a collective call per batch cannot deadlock
        count = max(1, min(-(-n // self.eval_batch_size), n // world_size))
        share = torch.arange(rank, n, world_size).tensor_split(count)
        return EvalLoader([(x, context) for x, context in map(part.rows, share)])

    def _scored(self, name: str) -> Split:
        part: Split = getattr(self, name)
        n = len(part.points)
        if name != "val" or self.val_points is None or self.val_points >= n:
            return part
        drawn = torch.randperm(n, generator=generator_from("val_points", self.seed))[: self.val_points]
        return part.rows(drawn.sort().values)

    def _process(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _single(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x
