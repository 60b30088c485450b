"""What a training step costs beside others' losses with the same network, and inside the Trainer beside a bare loop.

    python tests/benchmarks/bench_step.py [--floor FILE] [--rounds 5]

Batch 512, float32, 3 hidden layers of 256, fused Adam. The others' losses are written out as they are published, so
that none of their packages is needed. The floor is a stand-alone script of one score-matching step in plain PyTorch;
with one, the product's default steps (5 hidden layers of 512) are held against it too.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import geoopt
import torch
from pytorch_lightning import Callback, Trainer
from timing import Row, Times, measure, show
from torch import Tensor
from torch.func import jvp, vmap

from rsgm import RSGM, Euclidean, FlowMatching, LawData, Sphere
from rsgm.losses import DenoisingScoreMatching, ImplicitScoreMatching
from rsgm.losses.targets import StableTarget
from rsgm.losses.weightings import LikelihoodWeighting
from rsgm.models import GenerativeModel
from rsgm.networks import MLP, SiLU
from rsgm.processes import ImportanceTime, VariancePreserving
from rsgm.training import Training

BATCH = 512
#: steps of a loop that are not counted, and that are
WARMUP, STEPS = 5, 40
NETWORK = partial(MLP, hidden=[256, 256, 256], activation=SiLU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floor", type=Path, default=_floor_path())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    show(rows(options.rounds))
    if options.floor is not None and options.floor.exists():
        show(_floor(_load(options.floor), options.rounds))


def rows(rounds: int = 5) -> Iterator[Row]:
    """The steps that are to be reached."""
    yield from _flow_matching(rounds)
    yield from _targets(rounds)
    yield from _loop(rounds)


def _flow_matching(rounds: int) -> Iterator[Row]:
    x = Sphere(2).random_uniform(BATCH, 3)
    model = FlowMatching(Sphere(2), NETWORK)
    cases = {"rsgm": step(model, x), "riemannian-fm": step(model, x, partial(riemannian_fm, model))}
    yield Row(
        "flow matching, S2", "rsgm", "riemannian-fm's loss", measure(cases, rounds).ratio("rsgm", "riemannian-fm"), 0.75
    )
    x = torch.randn(BATCH, 2)
    model = FlowMatching(Euclidean(2), NETWORK)
    loss = DenoisingScoreMatching(ImportanceTime(stratified=True), LikelihoodWeighting())
    diffusion = RSGM(Euclidean(2), VariancePreserving, network=NETWORK, loss=loss)
    cases = {
        "rsgm": step(model, x),
        "torchcfm": step(model, x, partial(torchcfm, model)),
        "sdeflow": step(diffusion, x),
    }
    times = measure(cases, rounds)
    yield Row("flow matching, R2", "rsgm", "torchcfm's loss", times.ratio("rsgm", "torchcfm"), 1.0)
    yield Row("diffusion (sdeflow), R2", "rsgm", "torchcfm's loss", times.ratio("sdeflow", "torchcfm"), 1.05)


def _targets(rounds: int) -> Iterator[Row]:
    x = Sphere(2).random_uniform(BATCH, 3)
    exact, stable = (
        RSGM(Sphere(2), network=NETWORK, loss=loss)
        for loss in (DenoisingScoreMatching(), DenoisingScoreMatching(target=StableTarget(64)))
    )
    times = measure({"stable": step(stable, x), "exact": step(exact, x)}, rounds)
    yield Row("denoising, S2", "StableTarget(64)", "ExactTarget", times.ratio("stable", "exact"), 2.0)


def _loop(rounds: int) -> Iterator[Row]:
    data = LawData(fresh=False)
    data.setup()
    model = partial(RSGM, Sphere(2), network=NETWORK, loss=DenoisingScoreMatching())
    times = loops({"trainer": partial(trainer_step, model, data), "plain": partial(plain_step, model, data)}, rounds)
    yield Row("denoising with averaged weights, S2", "Trainer.fit", "a bare loop", times.ratio("trainer", "plain"), 1.1)


def _floor(floor: ModuleType, rounds: int) -> Iterator[Row]:
    data = LawData(fresh=False)
    data.setup()
    variants = {"implicit": (ImplicitScoreMatching(), "fused"), "denoising": (DenoisingScoreMatching(), "dsm")}
    for name, (loss, variant) in variants.items():
        model = partial(RSGM, Sphere(2), loss=loss)
        cases = {
            "trainer": partial(trainer_step, model, data),
            "plain": partial(plain_step, model, data),
            "floor": partial(floor_step, floor, variant),
        }
        times = loops(cases, rounds)
        yield Row(f"{name}, 5 x 512", "Trainer.fit", "a bare loop", times.ratio("trainer", "plain"), 1.05)
        yield Row(f"{name}, 5 x 512", "Trainer.fit", "a hand-fused step", times.ratio("trainer", "floor"), 1.15)


# ---- steps


def step(model: GenerativeModel, x: Tensor, loss: Callable[[Tensor], Tensor] | None = None) -> Callable[[], None]:
    """A step of the model: of its own loss, or of another one with its network."""
    loss = loss or (lambda x: model.loss(x)["loss"].mean())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    return run


def riemannian_fm(model: FlowMatching, x1: Tensor) -> Tensor:
    """Chen and Lipman's loss as their code has it: a derivative of geoopt's exponential map for each point."""
    manifold = geoopt.Sphere()
    x0, t = manifold.random_uniform(*x1.shape), torch.rand(len(x1))

    def conditional(x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        u = manifold.logmap(x0, x1)

        def path(t: Tensor) -> Tensor:
            return manifold.expmap(x0.unsqueeze(-2), torch.einsum("i,...k->...ik", t, u))

        return jvp(path, (t,), (torch.ones_like(t),))

    xt, velocity = (value.reshape(x1.shape) for value in vmap(conditional)(x0, x1, t[:, None]))
    x = manifold.projx(xt)
    error = manifold.proju(x, model.flow.field.network(t, x)) - velocity
    return manifold.inner(xt, error, error).mean() / 2


def torchcfm(model: FlowMatching, x1: Tensor) -> Tensor:
    """Tong et al.'s loss as their code has it, with σ = 0."""
    x0, t = torch.randn_like(x1), torch.rand(len(x1))
    s = t.reshape(-1, 1)
    xt = s * x1 + (1 - s) * x0 + 0.0 * torch.randn_like(x1)
    return ((model.flow.field.network(t, xt) - (x1 - x0)) ** 2).mean()


# ---- loops


def loops(cases: dict[str, Callable[[], float]], rounds: int) -> Times:
    """Of contestants that measure themselves, seconds per step."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(case())
    return Times(found)


class Clock(Callback):
    """CPU time from the first counted step to the last."""

    def __init__(self) -> None:
        self.start, self.total = 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == WARMUP:
            self.start = time.process_time()
        if trainer.global_step == WARMUP + STEPS:
            self.total = time.process_time() - self.start


def trainer_step(model: Callable[[], RSGM], data: LawData) -> float:
    """Seconds per step of the model in the Trainer, with averaged weights, as `train.py` runs it."""
    clock = Clock()
    trainer = Trainer(
        max_steps=WARMUP + STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[clock],
    )
    torch.manual_seed(0)
    trainer.fit(Training(model()), datamodule=data)
    return clock.total / STEPS


def plain_step(model: Callable[[], RSGM], data: LawData) -> float:
    """Seconds per step of the same model in a bare loop."""
    torch.manual_seed(0)
    made = model()

    def objective(k: int) -> Tensor:
        x, context = data.train_batch(k)
        return made.loss(x, context)["loss"].mean()

    return _bare(list(made.parameters()), objective)


def floor_step(floor: ModuleType, variant: str) -> float:
    """Seconds per step of the floor's variant."""
    torch.manual_seed(0)
    net = floor.Net()
    return _bare(list(net.parameters()), lambda k: floor.V[variant][0](net))


def _bare(parameters: list[Tensor], objective: Callable[[int], Tensor]) -> float:
    optimizer = torch.optim.Adam(parameters, lr=2e-4, fused=True)
    average = [p.detach().clone() for p in parameters]
    start = 0.0
    for k in range(WARMUP + STEPS):
        if k == WARMUP:
            start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        objective(k).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-3)
    return (time.process_time() - start) / STEPS


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
