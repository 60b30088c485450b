"""The commands: `train.py`, `evaluate.py`, and `rsgm` with a verb for each."""

import sys
from contextlib import nullcontext

from rsgm.progress import patience

# what waits for a prompt is told why; a log has no use for it
with patience("Loading PyTorch and Lightning …") if sys.stderr.isatty() else nullcontext():
    from rsgm.cli.commands import TrainCLI, evaluate_command, main, train
    from rsgm.cli.from_data import from_data

__all__ = ["TrainCLI", "evaluate_command", "from_data", "main", "train"]
