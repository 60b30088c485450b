"""The commands: `train.py`, `evaluate.py`, and `rsgm` with a verb for each."""

from rsgm.cli.commands import TrainCLI, evaluate_command, main, train
from rsgm.cli.from_data import from_data

__all__ = ["TrainCLI", "evaluate_command", "from_data", "main", "train"]
