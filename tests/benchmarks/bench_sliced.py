"""What a training step costs as the dimension grows, beside the network alone.

    python tests/benchmarks/bench_sliced.py [--rounds 7] [--dims 1 200] [--exact 50]

On the torus T^n with the network of configs/torus_rsgm_ssm.yaml, batch 512: a forward and a backward pass of the
network alone, of denoising and of sliced score matching, each relative to n = 1, and that relative to the growth of the
network alone. Implicit score matching, with n + 1 products for 2, beside (n + 1) / 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from timing import Row, measure, show

from rsgm import RSGM, Torus
from rsgm.distributions import TorusWrappedNormal
from rsgm.fields import DivergenceFreeField
from rsgm.losses import DenoisingScoreMatching, ImplicitScoreMatching, Loss, SlicedScoreMatching
from rsgm.networks import MLP, LogTime, SiLU
from rsgm.processes import Brownian, ImportanceTime
from rsgm.schedules import LinearBeta

BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dims", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--exact", type=int, nargs="+", default=[10, 50])
    options = parser.parse_args()
    show(rows(options.rounds, options.dims, options.exact))


def rows(rounds: int = 5, dims: tuple[int, ...] = (200,), exact: tuple[int, ...] = (50,)) -> Iterator[Row]:
    """Growth from n = 1."""
    time = ImportanceTime(stratified=True)
    losses = {"denoising": DenoisingScoreMatching(time), "sliced": SlicedScoreMatching(time)}
    for dim in dims:
        times = measure(
            {
                f"{name} {n}": case
                for n in (1, dim)
                for name, case in [("network", _network(n)), *((name, _step(n, loss)) for name, loss in losses.items())]
            },
            rounds,
        )
        network = times.ratio(f"network {dim}", "network 1")
        for name in losses:
            growth = times.ratio(f"{name} {dim}", f"{name} 1") / network
            yield Row(f"{name} step, T{dim} over T1", "growth", "the network's", growth, 1.3)
    for dim in exact:
        times = measure({f"exact {n}": _step(n, ImplicitScoreMatching(time)) for n in (1, dim)}, rounds)
        growth = times.ratio(f"exact {dim}", "exact 1") / ((dim + 1) / 2)
        yield Row(f"implicit step, T{dim} over T1", "growth", "(n + 1) / 2", growth, 1.1)


def _step(dim: int, loss: Loss) -> Callable[[], None]:
    return partial(train, model(dim, loss), _points(dim))


def _network(dim: int) -> Callable[[], None]:
    return partial(pass_network, model(dim, SlicedScoreMatching()), _points(dim))


def _points(dim: int) -> torch.Tensor:
    return TorusWrappedNormal(dim).draw(BATCH, torch.Generator().manual_seed(0)).float()


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
