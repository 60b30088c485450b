"""All comparisons of speed, as a table in Markdown: `python tests/benchmarks > docs/tables/speed.md`.

A ratio below 1 is in favour of this package. Each is a median over interleaved rounds in one process, on one thread.
"""

import importlib
import logging
import warnings
from pathlib import Path

import torch
from timing import HEADER, table


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(HEADER, flush=True)
    for file in sorted(Path(__file__).parent.glob("bench_*.py")):
        table(getattr(importlib.import_module(file.stem), "rows", list)())


if __name__ == "__main__":
    main()
