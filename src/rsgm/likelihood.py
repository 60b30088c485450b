"""Exact log-densities: the instantaneous change of variables, integrated adaptively."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchdiffeq import odeint

from rsgm.divergence import Divergence, Exact
from rsgm.fields import Field
from rsgm.manifolds import Manifold
from rsgm.processes import Process


class LogProb(NamedTuple):
    """A log-density.

    Fields:
        value: ``(B,)``, nats, with respect to the Riemannian volume
        nfe: evaluations of the field, the mean over batches
        exact: False for a lower bound
    """

    value: Tensor
    nfe: float
    exact: bool = True


class SolveError(RuntimeError):
    """An ODE solve that did not reach its end or left non-finite values."""


def integrate(
    slope: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    manifold: Manifold,
    x: Tensor,
    start: float,
    end: float,
    tolerance: float,
    max_steps: int = 2000,
) -> tuple[Tensor, Tensor, int]:
    r"""Solve :math:`\dot x = f(t, x)` with :math:`\int \mathrm{div} f` by Dormand-Prince 5(4).

    The error is controlled in the maximum norm, so that no point's accuracy depends on its neighbours in the
    batch; the field is evaluated on the manifold and never beyond ``end``.

    Arguments:
        slope: ``(t scalar, x (B, *shape)) -> (velocity, divergence (B,))``
        manifold: where x lives
        x: initial points ``(B, *shape)``
        start, end: times
        tolerance: relative and absolute
        max_steps: after which the solve has failed

    Returns:
        the points at ``end``, the integral of the divergence ``(B,)`` and the number of evaluations

    Raises:
        SolveError: if the solve fails
    """
    shape, evaluations = x.shape, 0

    def augmented(t: Tensor, state: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        # the solver probes for its first step without a look at the end
        t = t.clamp(min(start, end), max(start, end))
        velocity, divergence = slope(t, manifold.projx(state[:, :-1].reshape(shape)))
        return torch.cat([velocity.reshape(len(state), -1), divergence[:, None]], -1)

    times = torch.tensor([start, end], dtype=x.dtype, device=x.device)
    state = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), 1)], -1)
    options = {"norm": lambda y: y.abs().max(), "step_t": times[1:], "max_num_steps": max_steps}
    try:
        final = odeint(augmented, state, times, rtol=tolerance, atol=tolerance, method="dopri5", options=options)[-1]
    except AssertionError as error:
        raise SolveError(
            f"The ODE solve from t = {start} to {end} at tolerance {tolerance} failed after {evaluations} "
            f"evaluations ({error}). The field may be too rough: train longer, raise eps, or loosen the tolerance."
        ) from error
    bad = int((~torch.isfinite(final).all(-1)).sum())
    if bad:
        raise SolveError(f"The ODE solve left {bad} of {len(final)} points without a finite log-density.")
    return manifold.projx(final[:, :-1].reshape(shape)), final[:, -1], evaluations


class ScoreLikelihood(ABC):
    """How the log-density of a score model is computed."""

    @abstractmethod
    def __call__(self, process: Process, score: Field, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density of ``x`` ``(B, *shape)``, or a bound on it."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Method, effort and dtype, for the record."""


class ProbabilityFlow(ScoreLikelihood):
    r"""The log-density of a score model through its probability-flow ODE.

    .. math:: \dot x = b - \tfrac12 \beta s_\theta, \qquad
        \log p(x) = \log p_{\mathrm{prior}}(x_1) + \int_\varepsilon^1 \mathrm{div}\,\dot x\,dt

    References: Song et al. 2021, arXiv:2011.13456, section 4.3; De Bortoli et al. 2022, arXiv:2202.02763,
    appendix D; Chen et al. 2018, arXiv:1806.07366.

    Arguments:
        tolerance: relative and absolute, of the state and of the log-density
        dtype: of the whole computation, the network included
        divergence: exact by default
        batch_size: points solved together
    """

    def __init__(
        self,
        tolerance: float = 1e-5,
        dtype: Literal["float64", "float32"] = "float64",
        divergence: Divergence = Exact(),
        batch_size: int = 1024,
    ) -> None:
        if not tolerance > 0 or batch_size < 1:
            raise ValueError(
                f"ProbabilityFlow: tolerance and batch_size must be positive, found {tolerance} and {batch_size}."
            )
        self.tolerance, self.dtype, self.divergence, self.batch_size = (
            tolerance,
            dtype,
            divergence,
            batch_size,
        )

    def __call__(self, process: Process, score: Field, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density of ``x`` ``(B, *shape)``.

        Raises:
            SolveError: if a solve fails
        """
        dtype = {"float64": torch.float64, "float32": torch.float32}[self.dtype]
        # derivatives with respect to x do not exist in inference mode
        with torch.inference_mode(False), torch.no_grad():
            score = copy.deepcopy(score).to(dtype).eval()
            x = process.manifold.projx(x.clone().to(dtype))
            context = None if context is None else context.clone().to(dtype)
            values, counts = [], []
            for chunk in range(0, len(x), self.batch_size):
                part = slice(chunk, chunk + self.batch_size)
                value, count = self._solve(process, score, x[part], None if context is None else context[part])
                values.append(value)
                counts.append(count)
        return LogProb(torch.cat(values), sum(counts) / len(counts))

    def settings(self) -> dict[str, Any]:
        """Method, tolerance and dtype, for the record."""
        return {"method": "dopri5", "tolerance": self.tolerance, "dtype": self.dtype}

    def _solve(self, process: Process, score: Field, x: Tensor, context: Tensor | None) -> tuple[Tensor, int]:
        manifold = process.manifold

        def slope(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            t = t.to(y.dtype).expand(len(y))
            # the same draw at every stage of a stochastic divergence: the solver needs one smooth field
            generator = torch.Generator(y.device).manual_seed(0)
            directions = self.divergence.directions(manifold, y, generator)
            value, div = score.with_divergence(t, y, directions, context)
            drift, drift_div = process.drift_with_divergence(t, y, directions)
            half = 0.5 * process.schedule.beta(t)
            return drift - half.reshape(-1, *(1,) * (y.dim() - 1)) * value, drift_div - half * div

        end, integral, count = integrate(slope, manifold, x, process.eps, 1.0, self.tolerance)
        return process.prior.log_prob(end) + integral, count
