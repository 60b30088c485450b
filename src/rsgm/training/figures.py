"""Pictures of a model after each validation, in TensorBoard."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from rsgm.data import ManifoldData
from rsgm.evaluation.figures import IMAGES, density_figure, sample_figure, sample_like, with_nll
from rsgm.likelihood import SolveError
from rsgm.models import GenerativeModel

#: points at which a density is timed before it is drawn, and samples
_PROBE, _FIRST = 256, 16


class ValidationFigure(Callback, ABC):
    """Draws into TensorBoard after each validation, on the first process, while the averaged weights are in place."""

    #: of the figure in TensorBoard
    name: str

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the figure, where the manifold has one."""
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.logger is None:
            return
        model, data = pl_module.model, trainer.datamodule
        about = f"{type(model).__name__} on {data.provenance()['name']}, step {trainer.global_step:,}"
        nll = trainer.callback_metrics.get("val/nll")
        try:
            figure = self.draw(model, data, about if nll is None else f"{about}, {with_nll('validation', float(nll))}")
        except SolveError:
            # a young model; the evaluation at the end does not forgive it
            return
        if figure is not None:
            trainer.logger.experiment.add_figure(self.name, figure, trainer.global_step)

    @abstractmethod
    def draw(self, model: GenerativeModel, data: ManifoldData, about: str) -> Figure | None:
        """The figure, with what its title says of the run; None where there is none."""


class SampleFigure(ValidationFigure):
    """Draws samples beside validation points into TensorBoard after each validation.

    Of a model that samples slowly there are fewer, as the time for the first 16 of them tells.

    Arguments:
        count: number of samples, of pictures 64 at most
        seconds: about the most that they may take, by the wall
    """

    name = "samples"

    def __init__(self, count: int = 500, seconds: float = 10.0) -> None:
        self.count, self.seconds = count, seconds

    @override
    def draw(self, model: GenerativeModel, data: ManifoldData, about: str) -> Figure | None:
        count = self.count if data.image_shape is None else min(self.count, IMAGES)
        start = time.perf_counter()
        samples = sample_like(model, data.val, min(count, _FIRST))
        count = min(count, int(_FIRST * self.seconds / (time.perf_counter() - start)))
        if count > len(samples):
            samples = sample_like(model, data.val, count)
        if not bool(torch.isfinite(samples).all()):
            return None
        return sample_figure(data, samples, data.val.points, f"Samples: {about}", "validation")


class DensityFigure(ValidationFigure):
    """Draws the density into TensorBoard after each validation, where the manifold has a picture and it is cheap.

    There is none of a conditional model, and none where the log-density of all of the picture's points would take
    longer than ``seconds``, as that of the first 256 of them tells.

    Arguments:
        seconds: the most that a picture may cost, by the wall
    """

    name = "density"

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds

    @override
    def draw(self, model: GenerativeModel, data: ManifoldData, about: str) -> Figure | None:
        rough = model.rough()

        def timed(x: Tensor) -> Tensor:
            start = time.perf_counter()
            first = rough.log_prob(x[:_PROBE])
            if len(x) / _PROBE * (time.perf_counter() - start) > self.seconds:
                raise _TooSlow
            return torch.cat([first, rough.log_prob(x[_PROBE:])])

        try:
            return density_figure(model, data, timed, f"Density: {about}", data.val.points, "validation")
        except _TooSlow:
            return None


class _TooSlow(Exception):
    """A picture would cost more than it may."""
