"""How costs grow with the number of points, the dimension, the network and the processes: the tables of docs/scale.md.

    python tests/benchmarks/scale.py [points dimension network processes memory]

Seconds are those of one CPU thread. A network has 3 layers of 256 where nothing else is said, and random weights: its
costs are those of a trained one but for the number of evaluations that a solve takes.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from pytorch_lightning import Callback, Trainer

from rsgm import RSGM, AdaptiveKernelDensity, KernelDensity, PointsData, Sphere, Torus, fit
from rsgm.divergence import Hutchinson
from rsgm.likelihood import ODESolver
from rsgm.losses import DenoisingScoreMatching
from rsgm.networks import MLP
from rsgm.training import Training

POINTS = (1_000, 10_000, 100_000, 500_000)
DIMENSIONS = (1, 2, 5, 10, 20, 50, 100, 200)
HIDDEN = ([64] * 3, [128] * 3, [256] * 3, [512] * 5)
#: training points up to which adaptive kernels are tried: at more, fitting takes half an hour
ADAPTIVE = 100_000
#: scored points, of which costs per 1,000 are made
SCORED = 256
#: of a run whose steps are timed, and before them
STEPS, WARMUP = 100, 20
#: above which the divergence of a likelihood is an estimate
EXACT = 20


def main() -> None:
    torch.set_num_threads(1)
    studies = {"points": points, "dimension": dimension, "network": network, "processes": processes, "memory": memory}
    for name in sys.argv[1:] or studies:
        rows = studies[name]()
        header = next(rows)
        print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)


def points() -> Iterator[list[str]]:
    """Laws that keep their points, beside a network, which does not."""
    yield [
        "training points",
        "kernel density: fit",
        "score 1,000",
        "adaptive kernels: fit",
        "score 1,000",
        "network: score 1,000",
    ]
    sphere, generator = Sphere(2), torch.Generator().manual_seed(0)
    model = RSGM(sphere, network=partial(MLP, hidden=HIDDEN[2]), loss=DenoisingScoreMatching())
    x = sphere.random_uniform(SCORED, 3, generator=generator)
    scored = per_thousand(lambda: model.log_prob(x))
    for count in POINTS:
        places = sphere.random_uniform(count + SCORED, 3, generator=generator)
        row = [f"{count:,}"]
        for law in (KernelDensity(sphere), AdaptiveKernelDensity(sphere)):
            if isinstance(law, AdaptiveKernelDensity) and count > ADAPTIVE:
                row += ["", ""]
                continue
            row.append(shown(seconds(partial(law.fit_points, places[SCORED:], places[:SCORED]))))
            row.append(shown(per_thousand(partial(law.log_prob, x))))
        yield [*row, shown(scored)]


def dimension() -> Iterator[list[str]]:
    """The torus of n circles by denoising score matching."""
    yield ["n", "step, 512 points", "score 1,000", "divergence", "draw 1,000"]
    for n in DIMENSIONS:
        torus = Torus(n)
        solver = ODESolver() if n <= EXACT else ODESolver(divergence=Hutchinson())
        model = RSGM(torus, network=partial(MLP, hidden=HIDDEN[2]), loss=DenoisingScoreMatching(), likelihood=solver)
        x = torus.random_uniform(512, *torus.shape, generator=torch.Generator().manual_seed(0))
        yield [
            str(n),
            shown(step(model, x)),
            shown(per_thousand(lambda model=model, x=x: model.log_prob(x[:SCORED]))),
            "exact" if n <= EXACT else "estimate",
            shown(per_thousand(lambda model=model: model.sample(SCORED))),
        ]


def network() -> Iterator[list[str]]:
    """The sphere, networks of several sizes."""
    yield ["layers", "weights", "step, 512 points", "score 1,000", "draw 1,000"]
    sphere = Sphere(2)
    x = sphere.random_uniform(512, 3, generator=torch.Generator().manual_seed(0))
    for hidden in HIDDEN:
        model = RSGM(sphere, network=partial(MLP, hidden=hidden), loss=DenoisingScoreMatching())
        yield [
            f"{len(hidden)} × {hidden[0]}",
            f"{sum(p.numel() for p in model.parameters()):,}",
            shown(step(model, x)),
            shown(per_thousand(lambda model=model: model.log_prob(x[:SCORED]))),
            shown(per_thousand(lambda model=model: model.sample(SCORED))),
        ]


def processes() -> Iterator[list[str]]:
    """Steps per second of wall time of one process and of two, each with one thread, at the same global batch."""
    yield ["batch", "layers", "1 process, steps/s", "2 processes, steps/s", "ratio"]
    for batch, hidden in ((512, HIDDEN[2]), (4096, HIDDEN[2]), (4096, HIDDEN[3])):
        one, two = (steps_per_second(devices, batch, hidden) for devices in (1, 2))
        yield [str(batch), f"{len(hidden)} × {hidden[0]}", f"{one:.1f}", f"{two:.1f}", f"{two / one:.2f}"]


def memory() -> Iterator[list[str]]:
    """The most memory that a process takes for so many points, beyond what it takes before."""
    yield ["points", "kernel density: score", "network: score", "network: draw", "network: train 20 steps"]
    tasks = ("score_kernels", "score_network", "draw", "train")
    for count in (10_000, 100_000, 1_000_000):
        yield [f"{count:,}", *(f"{peak(task, count):.0f} MB" for task in tasks)]


def steps_per_second(devices: int, batch: int, hidden: list[int]) -> float:
    return child("train", devices, batch, *hidden)


def peak(task: str, count: int) -> float:
    return child("peak", task, count)


def child(*arguments: object) -> float:
    """The last word of this script in a process of its own, which is a number."""
    command = [sys.executable, __file__, "child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def in_child(what: str, *arguments: str) -> None:
    torch.set_num_threads(1)
    if what == "train":
        devices, batch, *hidden = map(int, arguments)
        seconds = train(devices, batch, hidden)
        if seconds is not None:
            print(STEPS / seconds)
        return
    task, count = arguments[0], int(arguments[1])
    sphere = Sphere(2)
    network = RSGM(sphere, network=partial(MLP, hidden=[64, 64]), loss=DenoisingScoreMatching())
    kernels = KernelDensity(sphere)
    kernels.fit_points(sphere.random_uniform(1000, 3), sphere.random_uniform(100, 3))
    x = sphere.random_uniform(count, 3)
    network.log_prob(x[:100])  # what is loaded on first use
    before = most_memory()
    {
        "score_kernels": lambda: kernels.log_prob(x),
        "score_network": lambda: network.log_prob(x),
        "draw": lambda: network.sample(count),
        "train": lambda: fit(network, x, steps=20, batch_size=512, enable_progress_bar=False),
    }[task]()
    print(most_memory() - before)


def train(devices: int, batch: int, hidden: list[int]) -> float | None:
    """Wall seconds of STEPS steps, of the first process."""
    sphere = Sphere(2)
    data = PointsData(sphere, sphere.random_uniform(20_000, 3), batch_size=batch, seed=0)
    model = Training(RSGM(sphere, network=partial(MLP, hidden=hidden), loss=DenoisingScoreMatching()))
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=WARMUP + STEPS,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[clock],
    )
    trainer.fit(model, data)
    return clock.seconds if trainer.is_global_zero else None


class Clock(Callback):
    """Wall time from the first counted step to the last."""

    seconds, started = 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == WARMUP:
            self.started = time.perf_counter()
        if trainer.global_step == WARMUP + STEPS:
            self.seconds = time.perf_counter() - self.started


def most_memory() -> float:
    """Of this process until now, megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(model: RSGM, x: torch.Tensor) -> float:
    """Seconds of a step of training."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def once() -> None:
        optimizer.zero_grad()
        model.loss(x)["loss"].mean().backward()
        optimizer.step()

    once()
    return seconds(lambda: [once() for _ in range(10)]) / 10


def per_thousand(call: Callable[[], object]) -> float:
    return seconds(call) * 1000 / SCORED


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def shown(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


if __name__ == "__main__":
    in_child(*sys.argv[2:]) if sys.argv[1:2] == ["child"] else main()
