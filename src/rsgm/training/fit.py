"""Fitting a model in one call."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader

from rsgm.arguments import require_instance
from rsgm.data import Batch, ManifoldData, PointsData
from rsgm.data.loaders import TrainLoader
from rsgm.data.splits import draw_rows
from rsgm.models import GenerativeModel, Weights
from rsgm.progress import visible
from rsgm.seeding import generator_from
from rsgm.training.learning import LearningRate, WarmupCosine
from rsgm.training.module import OptimizerFactory, Training

#: what Lightning says and a user can do nothing about
_NOISE = re.compile(
    r"litlogger|TPU available|weights_only|does not have many workers|exists and is not empty|LeafSpec|"
    r"no `val_dataloader`|LightningCLI's args parameter"
)


@contextmanager
def quiet() -> Iterator[None]:
    """Within this block Lightning leaves out what a user can do nothing about."""
    loggers = [
        logging.getLogger(name)
        for name in (
            "pytorch_lightning.utilities.rank_zero",
            "lightning_fabric.utilities.rank_zero",
            "pytorch_lightning.trainer.connectors.checkpoint_connector",
        )
    ]

    def worth_telling(record: logging.LogRecord) -> bool:
        return not _NOISE.search(record.getMessage())

    for logger in loggers:
        logger.addFilter(worth_telling)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*({_NOISE.pattern})")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(worth_telling)


def fit(
    model: GenerativeModel,
    points: ArrayLike | Tensor | LightningDataModule | DataLoader,
    context: ArrayLike | Tensor | None = None,
    weights: ArrayLike | Tensor | None = None,
    steps: int = 2000,
    batch_size: int = 512,
    optimizer: OptimizerFactory | None = None,
    learning_rate: LearningRate = WarmupCosine(),
    averaging: float | None = 0.999,
    seed: int = 0,
    **trainer: Any,
) -> GenerativeModel:
    """Fit a model to points, and leave it with the averaged weights, ready to sample and to score.

    All points are trained on; for a part that is held out give a `rsgm.ManifoldData`, such as `rsgm.PointsData`, whose
    train part is. A model that is fitted in one pass, such as a kernel density, chooses its widths on a tenth of the
    points, or on the validation part.

    Arguments:
        model: what is fitted, in place
        points: a tensor or an array of coordinates ``(N, *manifold.shape)``; of the globe, a DataFrame with columns of
            latitudes and longitudes in degrees; or a data module, or a loader, which makes its own batches
        context: what is known of each point and given to the model, ``(N, features)``
        weights: what each point counts, ``(N,)``: it is drawn for a batch as often
        steps: of the optimiser
        batch_size: points of one step
        optimizer: factory of the optimiser from the parameters; None for Adam at a rate of 1e-3
        learning_rate: factor on its learning rate over the run
        averaging: see `rsgm.training.Training`
        seed: of the batches and of all draws; equal seeds give equal models
        trainer: further arguments of `pytorch_lightning.Trainer`, such as ``accelerator="gpu"`` or ``logger``

    Returns:
        the model

    Raises:
        TypeError: for what is not a model
        ValueError: for points that are not on the manifold (see `rsgm.PointsData`), a batch of none, and parts of a
            mixture that were trained on another split

    Example:
        >>> import rsgm
        >>> points = rsgm.Sphere(2).random_uniform(100, 3)
        >>> model = rsgm.fit(rsgm.KernelDensity(rsgm.Sphere(2)), points)
        >>> model.log_prob(points).shape
        torch.Size([100])
    """
    require_instance(model, GenerativeModel, "fit: model")
    if batch_size < 1 or steps < 0:
        raise ValueError(f"fit: expected steps >= 0 and batch_size >= 1, found {steps} and {batch_size}.")
    loaded = isinstance(points, LightningDataModule | DataLoader)
    for name, own in (("context", context), ("weights", weights)):
        if loaded and own is not None:
            raise ValueError(f"fit: a {type(points).__name__} brings its own {name}; found another one beside it.")
    if context is not None and not model.trainable:
        raise ValueError(f"fit: {type(model).__name__} knows no context; leave it out, or fit one model for each.")
    given = None if loaded else PointsData.of(model.manifold, points, context, weights=weights)
    if model.trainable:
        training = Training(model, optimizer or partial(Adam, lr=1e-3, fused=True), learning_rate, averaging)
        training.seed = seed
        options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, **trainer}
        with quiet(), torch.random.fork_rng():
            loop = Trainer(max_steps=steps, num_sanity_val_steps=0, **options)
            training.train()  # a model that was loaded or fitted before is in evaluation mode
            loop.fit(training, points if given is None else _stream(given, batch_size, steps, seed))
    else:
        fit_in_one_pass(model, *(_parts(model, points) if given is None else _held_out(given, seed)), seed)
    model.fingerprint = points.fingerprint if isinstance(points, ManifoldData) else None
    return model.eval()


def fit_in_one_pass(
    model: GenerativeModel, train: Tensor, val: Tensor, weights: Weights | None = None, seed: int = 0
) -> dict[str, Any]:
    """Fit a model that learns nothing by gradient; what it has cost, as a checkpoint says it."""
    wall, cpu = time.perf_counter(), time.process_time()
    with visible():
        there = None if weights is None else tuple(part.to(model.device) for part in weights)
        model.fit_points(train.to(model.device), val.to(model.device), seed, there)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {**spent, "steps": 0, "points": len(train)}


def require_one_split(model: GenerativeModel, data: ManifoldData) -> None:
    """Raise a ValueError where the parts of a mixture were trained on other data, or on the same in other parts."""
    parts = [part for _, part in model.parts() if part is not model]
    others = [part for part in parts if part.fingerprint not in (None, data.fingerprint)]
    if others:
        names = ", ".join(type(part).__name__ for part in others)
        raise ValueError(
            f"{type(model).__name__}: {len(others)} of {len(parts)} models ({names}) were trained on other data, or on "
            "other parts of them, so that test points of the mixture may have been training points. Give all runs one "
            "file, split and seed of the split: --data.seed=0, beside the --seed_everything of each."
        )


def _parts(model: GenerativeModel, data: LightningDataModule) -> tuple[Tensor, Tensor, Weights | None]:
    """Training and validation points of a data module, and their weights."""
    if not isinstance(data, ManifoldData):
        raise ValueError(f"fit: a model that is fitted in one pass needs a ManifoldData, found {type(data).__name__}.")
    data.prepare_data()
    data.setup()
    require_one_split(model, data)
    return data.train.points, data.val.points, data.weights_to_fit()


def _held_out(data: PointsData, seed: int) -> tuple[Tensor, Tensor, Weights | None]:
    """Training and validation points of data in memory, a tenth of them for validation, and what they count."""
    points, weights = data.rows().points, data.weights()
    if weights is not None:  # a part must not be of points that count nothing
        points, weights = points[weights > 0], weights[weights > 0]
    if len(points) < 2:
        found = "" if weights is None else " that counts"
        raise ValueError(
            f"fit: a model that is fitted in one pass holds points out, so it needs two or more; found 1{found}."
        )
    order = torch.randperm(len(points), generator=generator_from("fit", seed))
    held_out = max(1, len(order) // 10)
    val, train = order[:held_out], order[held_out:]
    return points[train], points[val], None if weights is None else (weights[train], weights[val])


def _stream(data: PointsData, batch_size: int, steps: int, seed: int) -> TrainLoader:
    """Batches of rows drawn with replacement, each a function of the seed and its place."""
    rows, weights = data.rows(), data.weights()

    def batch(step: int, micro_step: int) -> Batch:
        generator = generator_from("batch", seed, step, micro_step)
        x, context = rows.rows(draw_rows(batch_size, len(rows.points), weights, generator))
        return x.float(), None if context is None else context.float()

    return TrainLoader(batch, steps)
