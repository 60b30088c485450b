"""Checkpoints: plain data and tensors, written and read with nothing but the file."""

from __future__ import annotations

import os
import pickle
import struct
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from rsgm.models.base import GenerativeModel

#: of the layout below: ``{"state_dict": {"model.<name>": tensor}, "rsgm": record}``, beside what Lightning writes
FORMAT = 2


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this package."""


def record(model: GenerativeModel, **more: Any) -> dict[str, Any]:
    """What a checkpoint says beside the weights: plain data only.

    Arguments:
        model: the law
        more: of its training: ``seed``, ``training`` (cost), ``validation`` (numbers by name, such as ``nll``),
            and what `rsgm.data.ManifoldData.record` says of its data
    """
    return {"format": FORMAT, "version": version("rsgm"), "model": model.description, **more}


def write_checkpoint(model: GenerativeModel, path: str | Path, **more: Any) -> None:
    """Write a model with its `record`, beside the target first, so that a torn file never takes its place."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it.")
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    partial = f"{path}.part"
    torch.save({"state_dict": weights, "rsgm": record(model, **more)}, partial)
    os.replace(partial, path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU, without executing any of it (``weights_only=True``).

    Raises:
        FileNotFoundError: where there is no such file
        CheckpointError: for a torn or foreign file, and one of another format
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
    found = checkpoint["rsgm"].get("format", 1)
    if found != FORMAT:
        writer = checkpoint["rsgm"].get("version", "0.1.0 or a former one")
        raise CheckpointError(
            f"{path} has format {found}, of version {writer} of rsgm; this is version {version('rsgm')}, which reads "
            f"format {FORMAT}. Install the version that wrote it, or train again."
        )
    return checkpoint
