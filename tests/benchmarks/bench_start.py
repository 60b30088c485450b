"""What a command costs before its work begins, beside the import of torch and Lightning.

    python tests/benchmarks/bench_start.py [--rounds 5]

CPU seconds of whole processes of one thread: the help of `train.py`, and a run up to its first step of training.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pytorch_lightning import Callback
from timing import Row, Times, show

REPOSITORY = Path(__file__).resolve().parents[2]
CLOCK = "import time\n{}\nprint(time.process_time())"
CASES = {
    "imports": CLOCK.format("import torch, pytorch_lightning"),
    "help": CLOCK.format("import rsgm.cli\ntry: rsgm.cli.train(['--help'])\nexcept SystemExit: pass"),
    "step": "import sys, rsgm.cli\nrsgm.cli.train(['--config', 'configs/volcano_rsgm.yaml', '--trainer.max_steps=1', "
    "'--trainer.callbacks+=bench_start.FirstStep', '--runs', sys.argv[1]])",
}


class FirstStep(Callback):
    """Says after a step how much CPU time the process has taken, and ends it."""

    def on_train_batch_end(self, *_: object) -> None:
        print("", time.process_time(), sep="\n", flush=True)
        os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    show(rows(parser.parse_args().rounds))


def rows(rounds: int = 5) -> Iterator[Row]:
    """The help, and the first step."""
    found: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, program in CASES.items():
                seconds = process(program, folder)
                if number:  # the first one writes byte code, and finds files that the disk has to bring
                    found[name].append(seconds)
    times, beside = Times(found), "import torch, pytorch_lightning"
    yield Row("train.py --help", "rsgm", beside, times.ratio("help", "imports"), 1.1)
    yield Row("up to the first step of a run", "rsgm", beside, times.ratio("step", "imports"), 1.6)


def process(program: str, folder: str) -> float:
    """The last word that a program prints, a number; its runs are in a folder."""
    paths = [str(REPOSITORY / "src"), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", program, folder],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
