"""What several files of tests build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Trainer

from rsgm.data import ManifoldData
from rsgm.models import GenerativeModel, write_checkpoint
from rsgm.training import Training, fit_in_one_pass


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    """A trainer on one CPU that logs and writes nothing of its own accord."""
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    places = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "num_sanity_val_steps": 0}
    return Trainer(**quiet | places | options)


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Of evaluations: they take half of the time."""
    # the package has a function of the module's name
    patch.setattr(sys.modules["rsgm.evaluation.evaluate"], "draw", lambda *_: {})


def learned(model: GenerativeModel, data: ManifoldData, folder: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a model that is trained, or fitted, on data, as by the command; and what was logged."""
    path = folder / "model.ckpt"
    if model.trainable:
        trainer = quiet_trainer(folder, **options)
        trainer.fit(Training(model), data)
        trainer.save_checkpoint(path)
        return path, trainer.callback_metrics
    data.prepare_data()
    data.setup()
    spent = fit_in_one_pass(model, data.train.points, data.val.points)
    record = {"data": data.description(), "fingerprint": data.fingerprint}
    write_checkpoint(model, path, seed=0, training=spent, **record)
    return path, {}
