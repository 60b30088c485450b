"""Laws on manifolds with a known score at every time, and how samples are compared with them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus, expand
from rsgm.manifolds.so3 import rotation_vector_to_matrix
from rsgm.processes import Brownian, Langevin, Process, ProductProcess, ScoreField
from rsgm.samplers import Sampler
from rsgm.schedules import LinearBeta, Schedule

#: true draws that samples are compared with, and how many points are evaluated together
TRUE_DRAWS, CHUNK = 100_000, 25_000


class Law:
    """The law of the data and the score of the process that starts from it. A subclass says what they are."""

    process: Process
    centres: Tensor  # (K, *shape), float64
    score: ScoreField

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The squared distance to the nearest centre, and which one it is."""
        x = x.double()
        d = torch.stack([self.process.manifold.dist(c.expand_as(x), x) for c in self.centres])
        least = d.min(0)
        return least.values.square(), least.indices


class MixtureScore(ScoreField):
    """The score of a mixture of heat kernels of variance time ``s0`` after the process's Brownian motion."""

    def __init__(self, process: Process, centres: Tensor, weights: Tensor, s0: float) -> None:
        super().__init__(process)
        self.centres, self.weights, self.s0, self.calls = centres, weights, s0, 0

    def terms(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted log-densities ``(K, B)`` and the scores ``(K, B, *shape)``."""
        parts = [self.manifold.heat_kernel(c.to(x).expand_as(x), x, s) for c in self.centres]
        log_probs, scores = map(torch.stack, zip(*parts, strict=True))
        return log_probs + self.weights.log().to(x)[:, None], scores

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.calls += 1
        log_probs, scores = self.terms(x, self.s0 + self.process.schedule.integral(t))
        return (expand(log_probs.softmax(0), scores) * scores).sum(0)


class Mixture(Law):
    """``sum_k w_k p_s0(x | c_k)``."""

    def __init__(self, process: Process, centres: Tensor, weights: Tensor, s0: float) -> None:
        self.process, self.centres, self.weights, self.s0 = process, centres, weights, s0
        self.score = MixtureScore(process, centres, weights, s0)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        time = torch.full((n,), self.s0, dtype=torch.float64)
        return self.process.manifold.heat_kernel_sample(self.centres[which], time, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        x = self.process.manifold.projx(x.double())
        parts = [self.score.terms(y, y.new_full((len(y),), self.s0))[0].logsumexp(0) for y in x.split(CHUNK)]
        return torch.cat(parts)


class StationaryScore(ScoreField):
    """That of the prior."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.calls = 0

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.calls += 1
        return 2 * self.process.drift(t, x) / expand(self.process.schedule.beta(t), x)


class Stationary(Law):
    """The law that a Langevin process keeps: its prior."""

    def __init__(self, process: Langevin) -> None:
        self.process, self.score = process, StationaryScore(process)
        self.centres = process.manifold.origin(1, *process.manifold.shape, dtype=torch.float64)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.process.prior.draw(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.process.prior.log_prob(x.double())


def unit(rows: list[list[float]]) -> Tensor:
    x = torch.tensor(rows, dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def angles(rows: list[list[float]]) -> Tensor:
    x = torch.tensor(rows, dtype=torch.float64)
    return torch.stack([x.cos(), x.sin()], -1)


def rotations(rows: list[list[float]]) -> Tensor:
    return rotation_vector_to_matrix(torch.tensor(rows, dtype=torch.float64))


@dataclass(frozen=True)
class Place:
    """A manifold with centres, some on each other's cut locus or nearly so, and unequal weights."""

    manifold: Manifold
    centres: Tensor
    weights: tuple[float, ...]


PLACES: dict[str, Place] = {
    "S2": Place(Sphere(2), unit([[0, 0, 1], [0, 0, -1]]), (0.3, 0.7)),
    "S2 four": Place(
        Sphere(2), unit([[1, 0, 0], [1, 0.9, 0], [-0.2, 0.3, -1], [-1, -0.02, 0.01]]), (0.1, 0.4, 0.3, 0.2)
    ),
    "S3": Place(Sphere(3), unit([[1, 0, 0, 0], [-1, 0, 0.01, 0], [0, 1, 1, 0]]), (0.3, 0.5, 0.2)),
    "T2": Place(Torus(2), angles([[3.1, 0], [0, 0.1]]), (0.3, 0.7)),
    "T2 three": Place(Torus(2), angles([[0, 0], [math.pi, math.pi], [0, 1.5]]), (0.3, 0.5, 0.2)),
    "T2xS1": Place(
        Product([Torus(2), Sphere(1)]),
        torch.cat([angles([[3.1, 0], [0, 1]]).flatten(-2), unit([[1, 0], [-1, 0.1]])], -1),
        (0.1, 0.9),
    ),
    "SO3": Place(SpecialOrthogonal(), rotations([[0, 0, 0], [math.pi, 0, 0], [0, 1.2, 0.5]]), (0.3, 0.5, 0.2)),
    "S2xT2": Place(
        Product([Sphere(2), Torus(2)]),
        torch.cat(
            [
                unit([[0, 0, 1], [0, 0.01, -1], [1, 0, 1]]),
                angles([[0, 0], [math.pi, 1], [0, 2]]).flatten(-2),
            ],
            -1,
        ),
        (0.3, 0.5, 0.2),
    ),
}
#: of heat kernels, radians
SCALES = (0.55, 0.1, 0.01, 0.001)
STATIONARY = {"H2": Hyperbolic(2), "H3": Hyperbolic(3), "R3": Euclidean(3)}


def mixture(place: str, scale: float, schedule: Schedule = LinearBeta()) -> Mixture:
    """The law with the default process, but for an ``eps`` with s(eps) = s0 / 100 at scales below .01."""
    found, s0 = PLACES[place], scale**2
    process = ProductProcess if found.manifold.factors else Brownian
    fine = float(schedule.inverse(torch.tensor(s0 / 100, dtype=torch.float64)))
    eps = fine if scale < 0.01 else 1e-3
    weights = torch.tensor(found.weights, dtype=torch.float64)
    return Mixture(process(found.manifold, schedule, eps), found.centres, weights, s0)


@functools.lru_cache(maxsize=1)
def truth(law: Law, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of true draws the squared distance to the nearest centre, which one it is, and -log p."""
    x = law.draw(n, torch.Generator().manual_seed(12345))
    return *law.nearest(x), -law.log_prob(x)


class Comparison(NamedTuple):
    """Samples against the law.

    Fields:
        ratio, ratio_error: of E d² to the nearest centre to that of true draws, and its standard error
        gap, gap_error: E[-log p] of samples less that of true draws, nats
        weights: the largest error of a centre's share, in standard errors
        evaluations: of the score
    """

    ratio: float
    ratio_error: float
    gap: float
    gap_error: float
    weights: float
    evaluations: int

    def right(self) -> bool:
        """What is asked of the default sampler."""
        close = abs(self.ratio - 1) <= max(0.02, 4 * self.ratio_error)
        return close and abs(self.gap) < 0.02 and self.weights <= 4 and self.evaluations <= 100


def compare(law: Law, sampler: Sampler, n: int, seed: int = 0, true_draws: int = TRUE_DRAWS) -> Comparison:
    """Draw ``n`` samples with the exact score and compare them with true draws."""
    law.score.calls = 0
    x = sampler(law.score, n, None, torch.Generator().manual_seed(seed))
    calls = law.score.calls
    (d, which), surprise = law.nearest(x), -law.log_prob(x)
    true_d, true_which, true_surprise = truth(law, true_draws)

    def error(a: Tensor, b: Tensor) -> float:
        return float((a.var() / len(a) + b.var() / len(b)).sqrt())

    share, true_share = (torch.bincount(w, minlength=len(law.centres)) / len(w) for w in (which, true_which))
    spread = (true_share * (1 - true_share) * (1 / n + 1 / true_draws)).sqrt().clamp_min(1e-12)
    return Comparison(
        float(d.mean() / true_d.mean()),
        error(d, true_d) / float(true_d.mean()),
        float(surprise.mean() - true_surprise.mean()),
        error(surprise, true_surprise),
        float(((share - true_share).abs() / spread).max()),
        calls,
    )
