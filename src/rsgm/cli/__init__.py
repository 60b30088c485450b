"""The commands: `train.py`, `evaluate.py`, and `rsgm` with a verb for each.

Names are loaded when they are first used: PyTorch and Lightning take seconds, which `rsgm --help` need not wait for.
"""

from typing import TYPE_CHECKING, Any

from rsgm.cli.verbs import load, main

if TYPE_CHECKING:  # for editors and type checkers, which do not run `__getattr__`
    from rsgm.cli.commands import TrainCLI as TrainCLI
    from rsgm.cli.commands import train as train
    from rsgm.cli.evaluate import evaluate_command as evaluate_command
    from rsgm.cli.placeholders import from_data as from_data

_HOME = {"TrainCLI": "commands", "train": "commands", "evaluate_command": "evaluate", "from_data": "placeholders"}
__all__ = ["TrainCLI", "evaluate_command", "from_data", "main", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rsgm.cli' has no attribute {name!r}")
    return load(_HOME[name], name)
