"""What a network predicts, and how it makes a score."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rsgm.fields import Field
from rsgm.manifolds import expand
from rsgm.networks import bind_times
from rsgm.processes.base import Process, ScoreField


class Prediction(ScoreField, ABC):
    """A score made of the values of another field.

    Constructed as ``Class(process, field)``.

    Arguments:
        process: the forward process
        field: what is predicted
    """

    def __init__(self, process: Process, field: Field) -> None:
        super().__init__(process)
        self.field = field
        bind_times(field, process.schedule)


class Score(Prediction):
    r"""A score from a field of order one, :math:`s_\theta(t, x) = v_\theta(t, x) / \sigma(t) + 2 b(t, x) / \beta(t)`.

    Near the data the score grows as :math:`1/\sigma(t)`; the network need not. With the second term, the score of
    the prior where the process is reversible, a network of zeros makes the reverse process equal to the forward one.

    References: De Bortoli et al. 2022, arXiv:2202.02763; Song and Ermon 2020, arXiv:2006.09011, technique 3.

    Arguments:
        process: the forward process
        field: the field v
    """

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``v / σ + 2 b / β``."""
        rest = 2 * self.process.drift(t, x) / expand(self.process.schedule.beta(t), x)
        return self.field(t, x, context) / expand(self.process.std(t), x) + rest

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The two parts' values and divergences; σ and β do not depend on the point."""
        value, div = self.field.with_divergence(t, x, directions, context)
        drift, drift_div = self.process.drift_with_divergence(t, x, directions)
        std, beta = self.process.std(t), self.process.schedule.beta(t)
        return value / expand(std, x) + 2 * drift / expand(beta, x), div / std + 2 * drift_div / beta


class LinearPrediction(Prediction, ABC):
    """A score that is linear in the prediction and the point, ``c(t) f + d(t) x``. A subclass says what c and d are."""

    @abstractmethod
    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """c and d, ``(B,)`` each."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``c f + d x``."""
        c, d = self.coefficients(t)
        return expand(c, x) * self.field(t, x, context) + expand(d, x) * x

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``c f + d x`` and ``c div f + d dim``."""
        value, div = self.field.with_divergence(t, x, directions, context)
        c, d = self.coefficients(t)
        return expand(c, x) * value + expand(d, x) * x, c * div + d * self.manifold.dim


class DriftPrediction(LinearPrediction):
    r"""A network that predicts the drift :math:`a = \sqrt\beta\,s` of the reversed process, on any manifold.

    References: Huang, Lim and Courville 2021, arXiv:2106.02808, section 3.

    Arguments:
        process: the forward process
        field: the field a
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``1 / g`` and nothing."""
        return 1 / self.process.diffusion(t), torch.zeros_like(t)


class GaussianPrediction(LinearPrediction, ABC):
    """A prediction in terms of ``X_t = α x0 + σ z``.

    Raises:
        ValueError: for a process without such a law
    """

    def __init__(self, process: Process, field: Field) -> None:
        super().__init__(process, field)
        process.signal(torch.ones(1))


class NoisePrediction(GaussianPrediction):
    r"""A network that predicts the noise, :math:`s = -\epsilon_\theta / \sigma`.

    With `NoiseWeighting` denoising score matching is then the mean of
    :math:`\tfrac12\|\epsilon_\theta - \epsilon\|^2`.

    References: Ho, Jain and Abbeel 2020, arXiv:2006.11239, section 3.2.

    Arguments:
        process: a forward process with normal laws
        field: the noise
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``-1 / σ`` and nothing."""
        return -1 / self.process.std(t), torch.zeros_like(t)


class DataPrediction(GaussianPrediction):
    r"""A network that predicts the data point, :math:`s = (\alpha \hat x_\theta - x) / \sigma^2`.

    References: Karras et al. 2022, arXiv:2206.00364, section 2 ("denoiser").

    Arguments:
        process: a forward process with normal laws
        field: the data point
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``α / σ²`` and ``-1 / σ²``."""
        variance = self.process.std(t).square()
        return self.process.signal(t) / variance, -1 / variance


class VelocityPrediction(GaussianPrediction):
    r"""A network that predicts :math:`v = \alpha\epsilon - \sigma x_0`: noise at little noise, data at much.

    .. math:: s = -\frac{\alpha v_\theta / \sigma + x}{\alpha^2 + \sigma^2}

    References: Salimans and Ho 2022, arXiv:2202.00512, section 4.

    Arguments:
        process: a forward process with normal laws
        field: the velocity
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``-α / (σ (α² + σ²))`` and ``-1 / (α² + σ²)``."""
        signal, std = self.process.signal(t), self.process.std(t)
        total = signal.square() + std.square()
        return -signal / (std * total), -1 / total
