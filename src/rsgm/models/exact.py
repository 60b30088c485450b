"""A score model that has nothing to learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from typing_extensions import override

from rsgm.distributions import GaussianMixture, SmoothedLaw
from rsgm.likelihood import ODESolver, ScoreLikelihood
from rsgm.manifolds import Manifold
from rsgm.models.families import ScoreModel
from rsgm.processes import GaussianProcess, ScoreField, VariancePreserving
from rsgm.samplers import ReverseDiffusion, Sampler
from rsgm.schedules import LinearBeta, Schedule


class LawScore(ScoreField):
    r"""The score of :math:`\alpha(t) X + \sigma(t) z` for a known law of X, in closed form.

    Arguments:
        process: a process of flat space
        law: of X
    """

    def __init__(self, process: GaussianProcess, law: SmoothedLaw) -> None:
        super().__init__(process)
        self.law = law

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The gradient of the log-density."""
        return self.law.score(x, self.process.signal(t), self.process.std(t))


class ExactScore(ScoreModel):
    r"""A score model of a known law, with the exact score in the place of a network: what is left is the sampler.

    Arguments:
        manifold: a Euclidean space, the law's
        law: one whose score is known at every level of noise; by default `GaussianMixture` with its own defaults
        process: factory of the forward process from the manifold; None for `VariancePreserving` with
            ``LinearBeta(beta_0=0.1, beta_1=20)``
        sampler: how samples are drawn
        likelihood: how log-densities are computed

    Raises:
        ValueError: for a law in another space

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> model = ExactScore(Euclidean(2))
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        manifold: Manifold,
        law: SmoothedLaw | None = None,
        process: Callable[[Manifold], GaussianProcess] | None = None,
        sampler: Sampler = ReverseDiffusion(),
        likelihood: ScoreLikelihood = ODESolver(),
    ) -> None:
        super().__init__(manifold)
        law = law or GaussianMixture()
        if law.manifold.shape != manifold.shape:
            raise ValueError(f"ExactScore: the law is on {law.manifold}, the model on {manifold}; give both the same.")
        process = process or partial(VariancePreserving, schedule=LinearBeta(beta_0=0.1, beta_1=20.0))
        self.process = process(manifold)
        self.score = LawScore(self.process, law)
        self.law, self.sampler, self.log_density = law, sampler, likelihood

    @property
    @override
    def fitted(self) -> bool:
        return type(self.process.schedule).fit is Schedule.fit
