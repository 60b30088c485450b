"""The Riemannian score-based generative model."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rsgm.fields import Field, NetworkField, TangentField
from rsgm.likelihood import EvidenceLowerBound, LogProb, ODESolver, ScoreLikelihood
from rsgm.losses import DenoisingScoreMatching, Loss
from rsgm.manifolds import Manifold
from rsgm.models.families import ScoreModel
from rsgm.networks import MLP, Network
from rsgm.processes import Brownian, Prediction, Process, Score
from rsgm.samplers import ReverseDiffusion, Sampler
from rsgm.schedules import Schedule


class RSGM(ScoreModel):
    r"""A score-based generative model on a manifold.

    A network :math:`v_\theta` gives the score :math:`s_\theta = v_\theta / \sigma(t) + 2b/\beta` of a diffusion from
    the data to a prior; reversing it draws samples, its probability flow gives exact log-densities. In flat space
    NCSN is this model with `VarianceExploding` and `AnnealedLangevin`, and DDPM with `VariancePreserving`,
    `NoisePrediction` and `GaussianBridge`.

    References: De Bortoli, Mathieu, Hutchinson, Thornton, Teh, Doucet 2022, "Riemannian Score-Based Generative
    Modelling", arXiv:2202.02763; Huang et al. 2022, "Riemannian Diffusion Models", arXiv:2208.07949; Song and Ermon
    2019, arXiv:1907.05600 (NCSN); Ho, Jain and Abbeel 2020, arXiv:2006.11239 (DDPM).

    Arguments:
        manifold: where the points live
        process: factory of the forward process from the manifold
        network: factory of the network from its input and output sizes
        field: factory of the tangent field from the manifold and the network factory
        prediction: factory of the score from the process and the field: what the field predicts
        loss: the training objective
        sampler: how samples are drawn
        likelihood: how log-densities are computed
        bound: a lower bound that is reported beside them

    Example:
        >>> from functools import partial
        >>> from rsgm.manifolds import Sphere
        >>> model = RSGM(Sphere(2), network=partial(MLP, hidden=[16]))
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        manifold: Manifold,
        process: Callable[[Manifold], Process] = Brownian,
        network: Callable[[int, int], Network] = MLP,
        field: Callable[[Manifold, Callable[[int, int], Network]], NetworkField] = TangentField,
        prediction: Callable[[Process, Field], Prediction] = Score,
        loss: Loss = DenoisingScoreMatching(),
        sampler: Sampler = ReverseDiffusion(),
        likelihood: ScoreLikelihood = ODESolver(),
        bound: EvidenceLowerBound | None = None,
    ) -> None:
        super().__init__(manifold)
        self.process = process(manifold)
        self.score = prediction(self.process, field(manifold, network))
        self.objective, self.sampler, self.log_density, self.bound = loss, sampler, likelihood, bound

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """The score-matching loss of each point."""
        return {"loss": self.objective(self.score, x, context)}

    def lower_bound(self, x: Tensor, context: Tensor | None = None) -> LogProb | None:
        """By ``bound``, if there is one."""
        return None if self.bound is None else self.bound(self.score, x, context)

    @property
    def needs_points(self) -> bool:
        """Whether the schedule leaves its range to them."""
        return type(self.process.schedule).fit is not Schedule.fit
