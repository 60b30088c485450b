"""What several files of tests build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    """A trainer on one CPU that logs and writes nothing of its own accord."""
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    places = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "num_sanity_val_steps": 0}
    return Trainer(**quiet | places | options)
