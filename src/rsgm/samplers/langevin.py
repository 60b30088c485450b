"""The one loop of Langevin dynamics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.manifolds import Manifold, expand

#: size of a Langevin step ``(B,)`` or one number, of the points, the gradients and the noise there
StepSize = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.no_grad()
def langevin(
    manifold: Manifold,
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    step: float | Tensor | StepSize,
    steps: int,
    generator: torch.Generator | None = None,
    max_norm: float | None = None,
) -> Tensor:
    r""":math:`x \leftarrow \exp_x(h\,\nabla\log p(x) + \sqrt{2h}\,z)`, unadjusted.

    On the line, for p standard normal, its stationary variance is :math:`1 / (1 - h/2)`. The step size of others is
    2h (:math:`x + \tfrac\alpha2 s + \sqrt\alpha z`, Song and Ermon 2019), h (Song and Ermon 2020) or the root of 2h
    (:math:`x + \tfrac{s^2}2 \nabla + s z`, Pang et al. 2020).

    References: Roberts and Tweedie 1996; Song and Ermon 2019, arXiv:1907.05600, section 2.2.

    Arguments:
        manifold: where x lives
        gradient: of the log-density, ``(B, *shape) -> (B, *shape)`` (see `gradient_of`)
        x: starting points ``(B, *shape)``
        step: h, one number or ``(B,)``, or a function of the points, the gradients and the noise
        steps: number of steps
        generator: of the noise
        max_norm: longer gradients are scaled down to this length

    Returns:
        points ``(B, *shape)`` without a history: the steps are never differentiated

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> generator = torch.Generator().manual_seed(0)
        >>> langevin(Euclidean(1), lambda x: -x, torch.zeros(5000, 1), 0.5, 50, generator).var()
        tensor(1.3378)
    """
    fixed = None if callable(step) else expand(torch.as_tensor(step).to(x), x)
    for _ in range(steps):
        g = gradient(x)
        if max_norm is not None:
            norm = manifold.squared_norm(x, g).sqrt().clamp_min(max_norm)
            g = expand(max_norm / norm, x) * g
        z = manifold.random_tangent(x, generator)
        h = expand(step(x, g, z), x) if fixed is None else fixed
        x = manifold.expmap(x, h * g + (2 * h).sqrt() * z)
    return x.detach()


@dataclass(frozen=True)
class LangevinChain:
    r"""A number of steps of `langevin`, which also says how its drift compares with its noise.

    Arguments:
        steps: their number; 0 for none
        step: their size h; :math:`s^2/2` for a step size s of Pang et al. 2020 (see `langevin`)
        max_norm: longer gradients are scaled down to this length

    Raises:
        ValueError: for numbers out of range

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> chain = LangevinChain(steps=5, step=0.02)
        >>> x, ratio = chain(Euclidean(1), lambda x: -x, torch.zeros(7, 1))
        >>> x.shape, ratio.shape
        (torch.Size([7, 1]), torch.Size([7]))
    """

    steps: int = 20
    step: float = 0.02
    max_norm: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.step > 0 or not (self.max_norm is None or self.max_norm > 0):
            raise ValueError(
                "LangevinChain: steps >= 0 and positive step and max_norm are needed, found "
                f"{self.steps}, {self.step} and {self.max_norm}."
            )

    def __call__(
        self,
        manifold: Manifold,
        gradient: Callable[[Tensor], Tensor],
        x: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Points ``(B, *shape)``, and :math:`|h\,\nabla| / |\sqrt{2h}\,z|` at the last step, ``(B,)``."""
        ratio = x.new_zeros(len(x))

        def step(y: Tensor, g: Tensor, z: Tensor) -> Tensor:
            nonlocal ratio
            ratio = (0.5 * self.step * manifold.squared_norm(y, g) / manifold.squared_norm(y, z)).sqrt()
            return y.new_tensor(self.step)

        return langevin(manifold, gradient, x, step, self.steps, generator, self.max_norm), ratio


def gradient_of(log_prob: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gradient, without a history, of a scalar log-density ``(B, *shape) -> (B,)`` that need not be normalised.

    Works in inference mode too, where `torch.autograd` alone does not.
    """

    def gradient(x: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            (value,) = torch.autograd.grad(log_prob(x).sum(), x)
        return value

    return gradient
