"""What a sliced training step costs as the dimension grows, beside the network alone, in one run.

    python tests/benchmarks/bench_sliced.py [--rounds 7] [--steps 10] [--dims 1 10 50 200]

On the torus T^n with the network and the loss of configs/torus_rsgm_ssm.yaml, batch 512. Prints medians of CPU
milliseconds (one thread, rounds interleaved) of a forward and a backward pass: of the network alone, of denoising and
of sliced score matching; then each relative to n = 1, and relative to the growth of the network alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from rsgm import RSGM, LawData, Torus
from rsgm.distributions import TorusWrappedNormal
from rsgm.fields import DivergenceFreeField
from rsgm.losses import DenoisingScoreMatching, Loss, SlicedScoreMatching
from rsgm.networks import MLP, LogTime, SiLU
from rsgm.processes import Brownian, ImportanceTime
from rsgm.schedules import LinearBeta

BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 10, 50, 200])
    options = parser.parse_args()
    torch.set_num_threads(1)
    time_sampler = ImportanceTime(stratified=True)
    losses = {"denoising": DenoisingScoreMatching(time_sampler), "sliced": SlicedScoreMatching(time_sampler)}
    cases: dict[tuple[str, int], Callable[[], None]] = {}
    for dim in options.dims:
        data = LawData(TorusWrappedNormal(dim), train_size=1, val_size=1, test_size=1, batch_size=BATCH)
        data.setup()
        x = data.train_batch(0)[0].float()
        for name, loss in losses.items():
            cases[name, dim] = partial(train, model(dim, loss), x)
        cases["network", dim] = partial(pass_network, model(dim, losses["sliced"]), x)
    times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(1 + options.rounds):
        for case, step in cases.items():
            start = time.process_time()
            for _ in range(options.steps):
                step()
            times[case].append((time.process_time() - start) / options.steps)
    # the first round is for warming up
    medians = {case: 1e3 * statistics.median(values[1:]) for case, values in times.items()}
    first = options.dims[0]
    growth = {(name, dim): value / medians[name, first] for (name, dim), value in medians.items()}
    print(f"{'':<10} {'n':>5} {'ms':>8} {f'/ n={first}':>8} {'/ network':>10}")
    for (name, dim), value in medians.items():
        relative = growth[name, dim] / growth["network", dim]
        print(f"{name:<10} {dim:>5} {value:8.2f} {growth[name, dim]:8.2f} {relative:10.2f}")


def model(dim: int, loss: Loss) -> RSGM:
    torch.manual_seed(0)
    return RSGM(
        Torus(dim),
        process=partial(Brownian, schedule=LinearBeta(beta_1=15.0)),
        network=partial(MLP, hidden=[256, 256, 256], activation=SiLU, time=LogTime),
        field=DivergenceFreeField,
        loss=loss,
    )


def train(trained: RSGM, x: torch.Tensor) -> None:
    trained.zero_grad(set_to_none=True)
    trained.loss(x)["loss"].mean().backward()


def pass_network(trained: RSGM, x: torch.Tensor) -> None:
    network = trained.score.field.network
    network.zero_grad(set_to_none=True)
    network(torch.rand(len(x)), x.flatten(1)).square().mean().backward()


if __name__ == "__main__":
    main()
