"""What a training step costs inside the Trainer, beside a bare floor and a plain loop, in one run.

    python tests/benchmarks/bench_step.py [--floor FILE] [--rounds 5] [--steps 40]

Prints medians of CPU milliseconds per step (one thread, rounds interleaved) and their ratios. The floor is a
stand-alone script of one score-matching step in plain PyTorch; without one, only the loops are compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from pytorch_lightning import Callback, Trainer

from rsgm import RSGM, EarthData, LawData, Sphere
from rsgm.losses import DenoisingScoreMatching, ImplicitScoreMatching
from rsgm.training import Training

WARMUP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--floor", type=Path, default=_floor_path())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    data = _data()
    cases: dict[str, Callable[[int], float]] = {}
    if options.floor is not None and options.floor.exists():
        floor = _load(options.floor)
        for variant in ("fused", "dsm"):
            cases[f"floor {variant}"] = lambda steps, v=variant: floor_step(floor, v, steps)
    for name, loss in (("ism", ImplicitScoreMatching()), ("dsm", DenoisingScoreMatching())):
        cases[f"trainer {name}"] = lambda steps, loss=loss: trainer_step(loss, data, steps)
        cases[f"plain loop {name}"] = lambda steps, loss=loss: plain_step(loss, data, steps)
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, case in cases.items():
            times[name].append(case(options.steps))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<16} {1e3 * value:8.2f} ms CPU per step")
    for top, bottom in (
        ("trainer ism", "floor fused"),
        ("trainer dsm", "floor dsm"),
        ("trainer ism", "plain loop ism"),
        ("trainer dsm", "plain loop dsm"),
    ):
        if bottom in medians:
            print(f"{top} / {bottom:<16} {medians[top] / medians[bottom]:.3f}")


class Clock(Callback):
    """CPU time from the first counted step to the last."""

    def __init__(self, steps: int) -> None:
        self.steps, self.start, self.total = steps, 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == WARMUP:
            self.start = time.process_time()
        if trainer.global_step == WARMUP + self.steps:
            self.total = time.process_time() - self.start


def trainer_step(loss: object, data: object, steps: int) -> float:
    """Seconds per step of the model in the Trainer, with averaged weights, as `train.py` runs it."""
    clock = Clock(steps)
    trainer = Trainer(
        max_steps=WARMUP + steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[clock],
    )
    torch.manual_seed(0)
    trainer.fit(Training(RSGM(Sphere(2), loss=loss)), datamodule=data)
    return clock.total / steps


def plain_step(loss: object, data: object, steps: int) -> float:
    """Seconds per step of the same model in a bare loop."""
    torch.manual_seed(0)
    model = RSGM(Sphere(2), loss=loss)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=2e-4, fused=True)
    average = [p.detach().clone() for p in parameters]
    start = 0.0
    for k in range(WARMUP + steps):
        if k == WARMUP:
            start = time.process_time()
        x, context = data.train_batch(k)
        optimizer.zero_grad(set_to_none=True)
        model.loss(x, context)["loss"].mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-3)
    return (time.process_time() - start) / steps


def floor_step(floor: ModuleType, variant: str, steps: int) -> float:
    """Seconds per step of the floor's variant."""
    torch.manual_seed(0)
    net = floor.Net()
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters, lr=2e-4, fused=True)
    average = [p.detach().clone() for p in parameters]
    objective = floor.V[variant][0]
    start = 0.0
    for k in range(WARMUP + steps):
        if k == WARMUP:
            start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        objective(net).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-3)
    return (time.process_time() - start) / steps


def _data() -> object:
    try:
        data = EarthData("volcano")
        data.setup()
    except FileNotFoundError:
        data = LawData()
        data.setup()
    return data


def _floor_path() -> Path | None:
    for folder in Path(__file__).resolve().parents:
        path = folder / "shared" / "reference" / "floor_ism_step.py"
        if path.exists():
            return path
    return None


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("floor", path)
    module = importlib.util.module_from_spec(spec)
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.argv = arguments
    return module


if __name__ == "__main__":
    main()
