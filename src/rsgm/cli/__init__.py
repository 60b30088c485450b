"""The commands: `train.py`, `evaluate.py` and `rsgm`."""

from rsgm.cli.commands import TrainCLI, evaluate_command, train

__all__ = ["TrainCLI", "evaluate_command", "train"]
