"""Train a model and score it: python train.py --config configs/volcano_rsgm.yaml."""

import sys

from rsgm.cli import train

if __name__ == "__main__":
    sys.exit(train())
