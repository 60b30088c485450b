"""The command `rsgm`: a verb, and the arguments of that command."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from rsgm import __version__
from rsgm.progress import patience

#: where each verb is, by module and function of this package, and what it does
_VERBS = {
    "train": ("commands", "train", "Train a model and score its best checkpoint"),
    "evaluate": (
        "evaluate",
        "evaluate_command",
        "Score a checkpoint; or have it score rows, draw samples, or say where its density is high",
    ),
    "audit": ("audit", "audit_command", "Say what may be claimed of a model, or of others' log-densities and samples"),
    "sweep": ("sweep", "sweep", "Run the trials of a file, or what is left of them, and tabulate them"),
    "results": ("sweep", "results", "Collect the runs of sweeps into results/ and write RESULTS.md"),
    "runs": ("table", "runs_command", "Tabulate the runs below a folder by what they were scored as"),
    "configs": (
        "configs",
        "configs_command",
        "List the configurations that --config takes by name, or print one, to copy and change",
    ),
}


def main(args: list[str] | None = None) -> int:
    """The command `rsgm`; the exit status."""
    given = sys.argv[1:] if args is None else args
    if given and given[0] in _VERBS:
        module, name, _ = _VERBS[given[0]]
        return load(module, name)(given[1:], f"rsgm {given[0]}")
    if given == ["--version"]:
        print(f"rsgm {__version__}")
        return 0
    lines = [f"  rsgm {name:<10} {what}." for name, (_, _, what) in _VERBS.items()]
    usage = "\n".join(["usage: rsgm COMMAND [ARGUMENTS]", "", *lines, "", "rsgm COMMAND --help says more."])
    if given in (["-h"], ["--help"]):
        print(usage)
        return 0
    print(f"rsgm: unknown command {given[0]!r}\n{usage}" if given else usage, file=sys.stderr)
    return 2


def load(module: str, name: str) -> Any:
    """A part of this package, whose imports take seconds, of which a prompt is told; a log has no use for it."""
    with patience("Loading PyTorch and Lightning …") if sys.stderr.isatty() else nullcontext():
        return getattr(import_module(f"rsgm.cli.{module}"), name)
