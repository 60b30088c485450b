"""Loaders that hand whole batches to Lightning, and continue exactly where an interrupted run stopped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from rsgm.seeding import StepCounter

#: what a loader yields and a model receives: points (B, *shape), and their context (B, c) or None
Batch = tuple[Tensor, Tensor | None]


class TrainLoader:
    """A stream of training batches, cut into epochs; each batch is a function of its position.

    The position is the optimiser step, and the micro-step: the number of the batch among those of one step where
    gradients are accumulated. The step is asked of ``step()`` at each batch, and in training that is
    `Trainer.global_step`, which every checkpoint restores with the weights. So a resumed run draws what the
    uninterrupted one would have drawn, in the middle of an epoch, at its end, or past the former ``max_steps``.

    Counting the batches in the ``state_dict`` that Lightning lets a loader have is wrong twice (2.6): the
    count is not restored at the end of an epoch unless ``max_steps`` is set, and a checkpoint that an
    exception wrote in the middle of a step has counted a batch that the weights have not seen.

    Arguments:
        batch: the global batch at a position (step, micro_step)
        length: batches per epoch, the unit of the progress bar
        step: the current optimiser step; by default each batch is a step, from 0
        rank, world_size: this process takes the rows ``rank::world_size`` of each batch
    """

    def __init__(
        self,
        batch: Callable[[int, int], Batch],
        length: int,
        step: Callable[[], int] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batch, self.length = batch, length
        self.step = step or itertools.count().__next__
        self.share = slice(rank, None, world_size)
        self._position = StepCounter()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.length):
            x, context = self.batch(*self._position(self.step()))
            yield x[self.share], None if context is None else context[self.share]

    def state_dict(self) -> dict[str, Any]:
        """Nothing to save; without this method Lightning warns that the loader cannot resume."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""


class EvalLoader:
    """Given batches, in order. Not a list, whose items Lightning would take for loaders."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)
