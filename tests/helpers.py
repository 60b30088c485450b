"""What several files of tests build: generators, times, and scores that are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor

from rsgm.data import LawData, ManifoldData
from rsgm.distributions import ManifoldDistribution
from rsgm.fields import Field, TangentField
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold, expand
from rsgm.models import FlowMatching, GenerativeModel, KernelDensity, ModelMixture, write_checkpoint
from rsgm.networks import MLP
from rsgm.processes import Process, Score, ScoreField
from rsgm.training import Training, fit_in_one_pass

every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def at(t: float, n: int) -> Tensor:
    """One time for each of ``n`` points."""
    return torch.full((n,), t, dtype=torch.float64)


def points(manifold: Manifold, n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Points of any manifold, compact or not."""
    generator = seeded(seed)
    return manifold.projx(torch.randn(n, *manifold.shape, generator=generator, dtype=torch.float64).to(dtype))


def tangents(manifold: Manifold, x: Tensor, length: float | None = None, seed: int = 1) -> Tensor:
    """Normal tangent vectors, or tangent vectors of a given length."""
    u = manifold.random_tangent(x, seeded(seed))
    if length is None:
        return u
    for _ in range(2):  # the rounding of a short vector, scaled up, is not tangent
        norm = manifold.squared_norm(x, u).sqrt()
        u = manifold.proju(x, u * (length / norm).reshape(-1, *(1,) * len(manifold.shape)))
    return u


def curvature(log_prob: Callable[[Tensor], Tensor], manifold: Manifold, x: Tensor) -> tuple[Tensor, Tensor]:
    """Second derivatives of a log-density along the axes at one point, and the same from differences."""

    def along(components: Tensor) -> Tensor:
        return log_prob(manifold.expmap(x, manifold.from_frame(x, components)))

    zero, step = torch.zeros(manifold.dim, dtype=x.dtype), 1e-3
    with torch.no_grad():
        ahead, behind = (
            torch.stack([along(sign * step * axis) for axis in torch.eye(len(zero)).to(x)]) for sign in (1, -1)
        )
        differences = (ahead + behind - 2 * along(zero)) / step**2
    return torch.autograd.functional.hessian(along, zero).diagonal(), differences


def worst(x: Tensor) -> float:
    """The largest entry by size, all of which have to be finite."""
    assert torch.isfinite(x).all()
    return float(x.abs().max())


def model_on(cls: Callable[..., GenerativeModel], manifold: Manifold, **options: Any) -> GenerativeModel:
    """A model of a class on a manifold; a mixture is one of parts there, of which one has weights and one is fitted."""
    if getattr(cls, "func", cls) is not ModelMixture:  # of a partial its class
        return cls(manifold, **options)
    flow = FlowMatching(manifold, network=partial(MLP, hidden=[16, 16]))
    return ModelMixture([flow, KernelDensity(manifold, widths=6, min_width=0.1, iterations=50)], **options)


class LawModel(GenerativeModel):
    """A law in the place of a model, for which everything about a density is known."""

    def __init__(self, law: ManifoldDistribution) -> None:
        super().__init__(law.manifold)
        self.law = law

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.law.draw(n, generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        return LogProb(self.law.log_prob(x.double()), 0.0)


def law_data(law: ManifoldDistribution, **sizes: int) -> LawData:
    """Draws of a law, set up."""
    data = LawData(law, **{"train_size": 200, "val_size": 10, "test_size": 200} | sizes)
    data.setup()
    return data


def random_score(process: Process, scale: float = 1.0, **options: Any) -> Score:
    """That of an untrained network, the same at each call, with its weights multiplied by ``scale``."""
    torch.manual_seed(0)
    score = Score(process, TangentField(process.manifold, partial(MLP, hidden=[16, 16], **options)))
    with torch.no_grad():
        for parameter in score.parameters():
            parameter *= scale
    return score


class NoScore(ScoreField):
    """Zero."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


class FieldScore(ScoreField):
    """A field in the place of a score."""

    def __init__(self, process: Process, field: Field) -> None:
        super().__init__(process)
        self.field = field

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.field(t, x, context)


class HeatKernelScore(ScoreField):
    """The score of data from a heat kernel at ``s0`` around a point, the origin by default, under Brownian motion."""

    def __init__(self, process: Process, s0: float, centre: Tensor | None = None) -> None:
        super().__init__(process)
        self.s0 = s0
        self.centre = process.manifold.origin(*process.manifold.shape) if centre is None else centre

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        s = self.s0 + self.process.schedule.integral(t)
        return self.manifold.heat_kernel_score(self.centre.to(x).expand_as(x), self.manifold.projx(x), s)


class ReverseMode(ScoreField):
    """With a divergence by reverse mode, which is several times faster than forward mode for scores in closed form."""

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            value = self(t, y)
            rows = [torch.autograd.grad((value * e).sum(), y, retain_graph=True)[0] for e in directions]
        return value.detach(), self.manifold.inner(x, directions, torch.stack(rows)).sum(0)


class NormalScore(ScoreField):
    """The score of data from N(mean, scale²) under a process with normal laws; of one point if the scale is 0."""

    def __init__(self, process: Process, scale: float = 1.0, mean: Tensor | float = 0.0) -> None:
        super().__init__(process)
        self.scale, self.mean = scale, mean

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        signal, std = expand(self.process.signal(t), x), expand(self.process.std(t), x)
        return (signal * self.mean - x) / ((self.scale * signal).square() + std.square())


def with_small_networks(patch: pytest.MonkeyPatch) -> None:
    """Where none is named, one of 32 neurons in place of the published 5 x 512: what is shown runs as it is."""
    patch.setattr(MLP.__init__, "__defaults__", ((32,), *MLP.__init__.__defaults__[1:]))


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    """A trainer on one CPU that logs and writes nothing of its own accord."""
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    places = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "num_sanity_val_steps": 0}
    return Trainer(**quiet | places | options)


def running(pid: int) -> bool:
    """Whether there is this process, and it is not one that has ended and of which nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Of evaluations: they take half of the time."""
    # the package has a function of the module's name
    patch.setattr(sys.modules["rsgm.evaluation.evaluate"], "draw", lambda *_: {})


def learned(model: GenerativeModel, data: ManifoldData, folder: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a model that is trained, or fitted, on data, as by the command; and what was logged."""
    path = folder / "model.ckpt"
    if model.trainable:
        trainer = quiet_trainer(folder, **options)
        trainer.fit(Training(model), data)
        trainer.save_checkpoint(path)
        return path, trainer.callback_metrics
    data.prepare_data()
    data.setup()
    spent = fit_in_one_pass(model, data.train.points, data.val.points)
    record = {"data": data.description(), "fingerprint": data.fingerprint}
    write_checkpoint(model, path, seed=0, training=spent, **record)
    return path, {}
