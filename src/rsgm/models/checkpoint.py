"""Checkpoints: plain data and tensors, written and read with nothing but the file."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rsgm.files import replaced_file

if TYPE_CHECKING:
    from rsgm.models.base import GenerativeModel

#: of the layout below: ``{"state_dict": {"model.<name>": tensor}, "rsgm": record}``, beside what Lightning writes
FORMAT = 2


_REMEDY = "Install the version that wrote it, or train again."


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
    """Write a model with its `record`; see `write_tensors`."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it.")
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    write_tensors({"state_dict": weights, "rsgm": record(model, **more)}, Path(path))


def write_tensors(contents: dict[str, Any], path: Path) -> None:
    """Write what a checkpoint holds; see `rsgm.files.replaced_file`."""
    buffer = io.BytesIO()  # torch says of a full disk that it is a position in a file
    torch.save(contents, buffer)
    with replaced_file(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU, without executing any of it (``weights_only=True``).

    Raises:
        FileNotFoundError: where there is no such file
        PermissionError: for one that may not be read
        CheckpointError: for a torn or foreign file, one that has changed since it was written, and another format
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    try:
        _require_whole(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise PermissionError(f"{path} may not be read by this user; see to its permissions.") from None
    except CheckpointError:
        raise
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, OSError, ValueError, struct.error):
        raise CheckpointError(f"{path} is torn or is not a checkpoint.") from None
    if not isinstance(checkpoint, dict) or "rsgm" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} was not written by rsgm: it has no description of a model.")
    found = checkpoint["rsgm"].get("format", 1)
    if found != FORMAT:
        writer = checkpoint["rsgm"].get("version", "0.1.0 or a former one")
        raise CheckpointError(
            f"{path} has format {found}, of version {writer} of rsgm; this is version {version('rsgm')}, which reads "
            f"format {FORMAT}. {_REMEDY}"
        )
    return checkpoint


def _require_whole(path: Path) -> None:
    """Raise a CheckpointError where a bit has changed, which `torch.load` does not look for."""
    if not zipfile.is_zipfile(path):
        return  # torch.load says that it is none
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, RuntimeError):
        changed = "its directory"
    if changed is not None:
        raise CheckpointError(
            f"{path} is torn or has changed since it was written: the checksum of {changed} is wrong. Take a copy."
        )


@contextmanager
def written_by(checkpoint: dict[str, Any], path: str | Path) -> Iterator[None]:
    """Within this block what a checkpoint's model cannot be built of is an error that names the file and its writer.

    Raises:
        CheckpointError: for every ValueError and TypeError
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        writer, here = checkpoint["rsgm"].get("version", "unknown"), version("rsgm")
        remedy = "" if writer == here else f" {_REMEDY}"
        raise CheckpointError(f"{path}, of version {writer} of rsgm (this is {here}): {error}{remedy}") from error


def require_weights(model: GenerativeModel, weights: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that names the difference, unless weights are those of a model; buffers may grow.

    Arguments:
        model: that they are for
        weights: tensors by the names of ``model.state_dict()``
    """
    expected, parameters = model.state_dict(), dict(model.named_parameters())
    shapes = {name: (tuple(p.shape), tuple(weights[name].shape)) for name, p in parameters.items() if name in weights}
    found = {
        "none for": [name for name in expected if name not in weights],
        "beside them": [name for name in weights if name not in expected],
        "of another shape": [f"{name} {has} for {here}" for name, (here, has) in shapes.items() if here != has],
    }
    if any(found.values()):
        text = "; ".join(f"{what} {_some(names)}" for what, names in found.items() if names)
        raise ValueError(f"its weights are not those of {type(model).__name__} as it is built here: {text}.")


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join([*names[:most], *([f"and {len(names) - most} more"] if len(names) > most else [])])
