"""What models share that are the score of a process, and models that are a flow."""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.description import describe
from rsgm.likelihood import Draws, LogProb, ODESolver, ScoreFlow, ScoreLikelihood, transport
from rsgm.likelihood.flows import Flow
from rsgm.models.base import GenerativeModel, Weights
from rsgm.models.dynamics import Dynamics, dynamics_of
from rsgm.networks import bind_times
from rsgm.processes import Process, ScoreField
from rsgm.samplers import Sampler


class ScoreModel(GenerativeModel, ABC):
    """The score of a process: its reversal draws, its probability flow gives log-densities.

    A subclass sets these attributes:
        process: the forward process
        score: its score
        sampler: how samples are drawn
        log_density: how log-densities are computed
    """

    process: Process
    score: ScoreField
    sampler: Sampler
    log_density: ScoreLikelihood

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` points by the reversed process."""
        return self.sampler(self.score, n, context, generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density, by the probability-flow ODE unless ``likelihood`` is something else."""
        return self.log_density(self.score, x, context)

    def dynamics(self, x: Tensor, seed: int | None = None) -> Dynamics:
        """The process and its reversal."""
        return dynamics_of(self.score, self.sampler, x.to(self.device), self.generator(seed))

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Let a schedule that leaves its range to the training points see them."""
        if self.process.fit(train):
            bind_times(self.score, self.process.schedule)
            self.redescribe(process=describe(self.process, skip=1))

    @override
    def resolution(self) -> float:
        return self.process.resolution()

    @override
    def transported(self, n: int, context: Tensor | None, generator: torch.Generator) -> Draws:
        return transport(ScoreFlow(self.score), n, context, generator)

    @override
    def rough(self) -> GenerativeModel:
        return self.altered(log_density=self.log_density.rough())


class FlowModel(GenerativeModel, ABC):
    """A flow between the data and a prior, whose ODE gives samples and log-densities.

    A subclass sets these attributes:
        flow: from the data to the prior
        solver: how log-densities and samples are computed
    """

    flow: Flow
    solver: ODESolver

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` points: draws of the prior, carried back."""
        return self.solver.sample(self.flow, n, context, generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density by the ODE."""
        return self.solver.log_prob(self.flow, x, context)

    @override
    def transported(self, n: int, context: Tensor | None, generator: torch.Generator) -> Draws:
        return transport(self.flow, n, context, generator)

    @override
    def rough(self) -> GenerativeModel:
        return self.altered(solver=self.solver.rough())
