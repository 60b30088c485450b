"""How every command ends on an error: one line where a user can do something about it, a request to report it else."""

from __future__ import annotations

import csv
import io
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import torch
import yaml
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from rsgm.cli import runs
from rsgm.cli.explain import UsageError, explain
from rsgm.likelihood import SolveError
from rsgm.models import CheckpointError, NonFiniteLossError
from rsgm.sweeps import SweepError
from rsgm.training import ProcessLost, Stopped

#: what is said of a file, a setting, or a run that diverges
_FORESEEN = (
    ArithmeticError,
    ImportError,
    MemoryError,
    MisconfigurationException,
    NonFiniteLossError,
    NotImplementedError,
    OSError,
    OmegaConfBaseException,
    ProcessLost,
    SolveError,
    ValueError,
    csv.Error,
    torch.OutOfMemoryError,
    yaml.YAMLError,
)
#: what a constructor says of arguments that it was not made for
_OF_A_WRONG_VALUE = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
_VERSIONS = ("rsgm", "torch", "pytorch_lightning", "jsonargparse", "numpy")


@dataclass
class Failure:
    """How a command failed.

    Arguments:
        status: for the shell: 2 for a command line or a configuration that cannot be used, 1 for everything else
    """

    status: int = 1


@contextmanager
def in_one_line(command: str) -> Iterator[Failure]:
    """End this block on an error by one line about it; of an error that nobody has foreseen a report is asked for.

    With ``RSGM_DEBUG`` in the environment errors go on.

    Arguments:
        command: how it was called
    """
    failure = Failure()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # a ± that a terminal does not know ends no evaluation
        sys.stdout.reconfigure(errors="replace")
    try:
        yield failure
    except Stopped as stopped:
        failure.status = int(stopped.code)
        if runs.is_first():
            print(f"{command}: stopped by {stopped.name}. {stopped.remedy}", file=sys.stderr)
    except Exception as error:
        if os.environ.get("RSGM_DEBUG"):
            raise
        failure.status = 2 if isinstance(error, (UsageError, SweepError)) else 1
        if isinstance(error, _FORESEEN) or _out_of_memory(error):
            print(f"{command}: {_text(error)}", file=sys.stderr)
            return
        traceback.print_exc()
        versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
        print(
            f"{command}: a fault of rsgm, or of a part of your own that stands in the lines above. Please report it "
            f"with them and with these versions: {versions}, Python {platform.python_version()}.",
            file=sys.stderr,
        )


@contextmanager
def of_settings() -> Iterator[None]:
    """Within this block, in which parts are made of settings, what a constructor trips over is a wrong setting.

    Raises:
        UsageError: in place of errors that elsewhere were faults of a program
    """
    try:
        yield
    except ValueError as error:
        if str(error).startswith("Does not validate"):  # what a constructor said, in a frame of jsonargparse
            raise UsageError(explain(str(error), [])) from error
        raise
    except _OF_A_WRONG_VALUE as error:
        if isinstance(error, _FORESEEN):
            raise
        raise UsageError(f"these settings make no model and data: {type(error).__name__}: {_text(error)}") from error


@contextmanager
def of_a_state(path: str, was_of_use: Callable[[], bool]) -> Iterator[None]:
    """Within this block, in which a run goes on, what is tripped over before its first batch is done is in the state.

    Arguments:
        path: of the checkpoint
        was_of_use: whether a batch is done

    Raises:
        CheckpointError: in place of errors that elsewhere were faults of a program
    """
    try:
        yield
    except (*_OF_A_WRONG_VALUE, ValueError) as error:
        if (isinstance(error, _FORESEEN) and type(error) is not ValueError) or was_of_use():
            raise
        raise CheckpointError(
            f"{path}: no training can go on from the state in it: {type(error).__name__}: {_text(error)}. Give it the "
            "configuration that it was written with, or start without it."
        ) from error


def require_device(device: str) -> None:
    """Raise a UsageError, unless tensors can be made there."""
    try:
        torch.empty(0, device=device)
    # torch asserts that it was compiled for the device
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"--device={device}: {_text(error)}") from error


def _text(error: Exception) -> str:
    text = str(error)
    if isinstance(error, RuntimeError):  # of torch: the lines below show its own source
        text = text.split("\n")[0]
    if isinstance(error, OSError) and error.strerror:
        places = [str(place) for place in (error.filename, error.filename2) if place is not None]
        text = f"{' -> '.join(places)}: {error.strerror}" if places else error.strerror
    return text or type(error).__name__


def _out_of_memory(error: Exception) -> bool:
    """Whether torch found no memory on the CPU, for which it has no class."""
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
