"""All comparisons of speed, as a table in Markdown: `python tests/benchmarks > docs/tables/speed.md`.

A ratio below 1 is in favour of this package. Each is a median over interleaved rounds in one process, on one thread.
"""

import importlib
import logging
import warnings
from pathlib import Path

import torch


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print("| what | this package | beside | ratio | reach |\n|---|---|---|---|---|", flush=True)
    for file in sorted(Path(__file__).parent.glob("bench_*.py")):
        for row in getattr(importlib.import_module(file.stem), "rows", list)():
            reached = f"{row.ratio:.2f}" if row.ratio <= row.reach else f"**{row.ratio:.2f}**"
            print(f"| {row.what} | {row.contestant} | {row.reference} | {reached} | {row.reach:g} |", flush=True)


if __name__ == "__main__":
    main()
