"""What TensorBoard gets of a run beside its curves: the settings and the test metrics, a row of its HParams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from typing_extensions import override

from rsgm.sweeps import at

#: of the trainer, by which runs differ
_TRAINER = ("max_steps", "max_epochs", "accumulate_grad_batches", "gradient_clip_val", "precision")
#: of ``metrics.json``, by the names that they have there
_SCORES = {
    "test/nll": "nll.mean",
    "test/nll_standard_error": "nll.standard_error",
    "test/nll_gap": "nll_gap.mean",
    "test/normalisation": "normalisation",
    "test/kernel_density_nll": "baselines.kernel_density.nll.mean",
    "test/bits_per_dim": "bits_per_dim.mean",
    "cost/training_cpu_seconds": "seconds.training.cpu",
}


class Events(TensorBoardLogger):
    """TensorBoard's events, without the empty hparams.yaml that Lightning puts beside them.

    They are written every few seconds: at the end of a run its thread is waited for.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, flush_secs=3, **options)
        self._last: tuple[int | None, dict[str, float]] = None, {}

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Once, also of a step before a checkpoint, of which the numbers come twice."""
        if (step, metrics) != self._last:
            super().log_metrics(metrics, step)
            self._last = step, dict(metrics)

    @override
    def save(self) -> None:
        self.experiment.flush()


def log_result(trainer: Trainer, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Give each logger of a run its settings and test metrics; TensorBoard's as one row of HParams."""
    found, scored = settings(config) | {"parameters": metrics["parameters"]}, scores(metrics)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(found, scored, trainer.global_step)
        else:
            logger.log_hyperparams(found)
            logger.log_metrics(scored, trainer.global_step)
        logger.save()


def settings(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """The settings of a run, flat: each part by the name of its class, its arguments below it.

    Example:
        >>> loss = {"class_path": "rsgm.losses.DenoisingScoreMatching", "init_args": {"target": None}}
        >>> config = {"seed_everything": 1, "model": {"class_path": "rsgm.RSGM", "init_args": {"loss": loss}}}
        >>> settings(config)
        {'seed': 1, 'model': 'RSGM', 'model.loss': 'DenoisingScoreMatching'}
    """
    trainer = {name: config.get("trainer", {}).get(name) for name in _TRAINER}
    parts = {"seed": config["seed_everything"]} | {name: config.get(name) for name in ("model", "training", "data")}
    # how the optimiser is implemented is no setting
    optimizer = (parts["training"] or {}).get("optimizer") or {}
    arguments = {key: value for key, value in optimizer.get("init_args", {}).items() if not isinstance(value, bool)}
    if optimizer:
        parts["training"] = {**parts["training"], "optimizer": {**optimizer, "init_args": arguments}}
    return dict(_flat("", {**parts, "trainer": trainer}))


def scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of ``metrics.json`` what runs are compared by, as far as it is there."""
    return {name: float(value) for name, place in _SCORES.items() if (value := at(metrics, place)) is not None}


def _flat(name: str, value: Any) -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted names and the plain values there; nothing for None."""
    if isinstance(value, Mapping):
        if "class_path" in value:
            yield name, value["class_path"].rpartition(".")[2]
            value = value.get("init_args") or {}
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else key, item)
    elif isinstance(value, bool | int | float | str):
        yield name, value
    elif value is not None:
        yield name, str(value)
