"""Score a checkpoint or draw samples: python evaluate.py --ckpt runs/volcano_rsgm/version_0/best.ckpt."""

import sys

from rsgm.cli import evaluate_command

if __name__ == "__main__":
    sys.exit(evaluate_command())
