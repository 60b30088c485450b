"""Reading a checkpoint: safely, and with nothing but the file."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from rsgm.description import build
from rsgm.models.base import GenerativeModel


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this package."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU, without executing any of it (``weights_only=True``).

    Raises:
        FileNotFoundError: where there is no such file
        CheckpointError: for a torn or foreign file
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, OSError, ValueError, struct.error):
        raise CheckpointError(f"{path} is torn or is not a checkpoint.") from None
    if not isinstance(checkpoint, dict) or "rsgm" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} was not written by rsgm: it has no description of a model.")
    return checkpoint


def load(path: str | Path, device: torch.device | str = "cpu") -> GenerativeModel:
    """The model in a checkpoint, with its averaged weights where it has them, ready to sample and to score.

    Only classes that are already imported and that the constructors' annotations admit are built; a model with
    parts of your own needs their module imported first.

    Arguments:
        path: a ``.ckpt`` file
        device: where to put the model

    Raises:
        FileNotFoundError, CheckpointError: see `read_checkpoint`
        ValueError: for a class that is not admitted
    """
    checkpoint = read_checkpoint(path)
    model = build(checkpoint["rsgm"]["model"], GenerativeModel)
    model.description = checkpoint["rsgm"]["model"]
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    return model.to(device).eval()
