"""The commands: `train.py`, `evaluate.py`, and `rsgm` with a verb for each."""

from rsgm.cli.commands import TrainCLI, evaluate_command, main, train

__all__ = ["TrainCLI", "evaluate_command", "main", "train"]
