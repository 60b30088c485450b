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
from types import NoneType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rsgm.files import replaced_file

if TYPE_CHECKING:
    from rsgm.models.base import GenerativeModel

#: of the layout below: ``{"state_dict": {"model.<name>": tensor}, "rsgm": record}``, beside what Lightning writes
FORMAT = 2


#: of what stands in a record
_KINDS: dict[str, tuple[type, ...]] = {
    "model": (dict,),
    **dict.fromkeys(("data", "reading", "reference", "training", "validation"), (dict, NoneType)),
    **dict.fromkeys(("version", "fingerprint"), (str, NoneType)),
    "seed": (int, NoneType),
}
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
    about = {"format": FORMAT, "version": version("rsgm"), "model": model.description}
    return {**about, "fingerprint": model.fingerprint, **more}


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
    with path.open("rb"):  # what the disk says is not for want of a checkpoint
        pass
    try:
        _require_whole(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise PermissionError(f"{path} may not be read by this user; see to its permissions.") from None
    except CheckpointError:
        raise
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        struct.error,
    ):
        raise CheckpointError(f"{path} is torn or is not a checkpoint.") from None
    if not isinstance(checkpoint, dict) or "rsgm" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} was not written by rsgm: it has no description of a model.")
    if not isinstance(checkpoint["rsgm"], dict):
        raise CheckpointError(f"{path}: found {checkpoint['rsgm']!r:.60} for its record, expected names and values.")
    found = checkpoint["rsgm"].get("format", 1)
    if found != FORMAT:
        writer = checkpoint["rsgm"].get("version", "0.1.0 or a former one")
        raise CheckpointError(
            f"{path} has format {found}, of version {writer} of rsgm; this is version {version('rsgm')}, which reads "
            f"format {FORMAT}. {_REMEDY}"
        )
    _require_layout(path, checkpoint)
    return checkpoint


def weights_in(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint's model, by their names there."""
    return {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items()}


def _require_whole(path: Path) -> None:
    """Raise a CheckpointError where a bit has changed, which `torch.load` does not look for.

    Nothing in a checkpoint is compressed: what it holds takes no more memory than the file.
    """
    if not zipfile.is_zipfile(path):
        return  # torch.load says that it is none
    try:
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise CheckpointError(f"{path} is torn or is not a checkpoint: parts of it are compressed.")
            changed = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError):
        changed = "its directory"
    if changed is not None:
        raise CheckpointError(
            f"{path} is torn or has changed since it was written: the checksum of {changed} is wrong. Take a copy."
        )


def _require_layout(path: Path, checkpoint: dict[str, Any]) -> None:
    """Raise a CheckpointError, unless each part of a checkpoint is of its kind."""
    weights, record = checkpoint["state_dict"], checkpoint["rsgm"]
    if not isinstance(weights, dict) or not all(
        isinstance(n, str) and _is_dense(value) for n, value in weights.items()
    ):
        raise CheckpointError(f"{path}: expected tensors by name for its weights, found something else.")
    for name, kinds in _KINDS.items():
        if not isinstance(record.get(name), kinds):
            expected = " or ".join(kind.__name__ for kind in kinds).replace("NoneType", "None")
            raise CheckpointError(f"{path}: found {record.get(name)!r:.60} for its {name}, expected {expected}.")
    kept = (record.get("reference") or {}).values()
    if not all(value is None or _is_dense(value) for value in kept):
        raise CheckpointError(f"{path}: expected tensors for its reference, found something else.")


def _is_dense(value: Any) -> bool:
    """Whether a value is a tensor that has its numbers, rather than one number for many places."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


@contextmanager
def written_by(checkpoint: dict[str, Any], path: str | Path) -> Iterator[None]:
    """Within this block what a checkpoint's model cannot be built of is an error that names the file and its writer.

    Raises:
        CheckpointError: for every error of its values
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
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
