"""Solving a flow: exact log-densities and samples, integrated adaptively."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute
from torchdiffeq import odeint
from tqdm import tqdm

from rsgm.divergence import Divergence, Exact
from rsgm.fields import NetworkField
from rsgm.likelihood.flows import Flow, ScoreFlow
from rsgm.manifolds import Manifold
from rsgm.processes import ScoreField
from rsgm.progress import bar


class LogProb(NamedTuple):
    """A log-density.

    Fields:
        value: ``(B,)``, nats, with respect to the Riemannian volume
        nfe: evaluations of the field, the mean over batches
        exact: False for a lower bound, in the mean, and for an estimate
        solver: method, accuracy and dtype, for the record; None where nothing is solved
        draws: effective number ``(B,)`` of the random draws behind an estimate
    """

    value: Tensor
    nfe: float
    exact: bool = True
    solver: dict[str, Any] | None = None
    draws: Tensor | None = None


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
    reached: Callable[[float], None] = lambda share: None,
    accepted: Callable[[float], None] | None = None,
    safety: float = 0.9,
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
        reached: is told at each evaluation which share of the way lies behind it
        accepted: is told the time to which each step leads
        safety: how long a step is beside the longest that the error allows

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
        reached((float(t.detach()) - start) / (end - start))
        velocity, divergence = slope(t, manifold.projx(state[:, :-1].reshape(shape)))
        return torch.cat([velocity.reshape(len(state), -1), divergence[:, None]], -1)

    if accepted is not None:
        # torchdiffeq's own name; its steps are positive in either direction
        augmented.callback_accept_step = lambda t, y, dt: accepted(float(t + (dt if end > start else -dt)))
    times = torch.tensor([start, end], dtype=x.dtype, device=x.device)
    state = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), 1)], -1)
    options = {"norm": lambda y: y.abs().max(), "step_t": times[1:], "max_num_steps": max_steps, "safety": safety}
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


def log_prob(
    flow: Flow,
    x: Tensor,
    context: Tensor | None = None,
    tolerance: float = 1e-5,
    divergence: Divergence = Exact(),
    seed: int = 0,
    checkpoint: bool = False,
    reached: Callable[[float], None] = lambda share: None,
) -> tuple[Tensor, int]:
    """The log-density of ``x`` ``(B, *shape)`` by one solve, and the number of evaluations.

    Differentiable with respect to the flow's parameters, through the steps of the solver.

    Arguments:
        flow: the law
        x: points ``(B, *shape)``
        context: ``(B, features)``, if the flow is conditional
        tolerance: relative and absolute
        divergence: exact by default
        seed: of a stochastic divergence
        checkpoint: compute each evaluation again in the backward pass instead of keeping what it needs
        reached: see `integrate`

    Raises:
        SolveError: if the solve fails
    """

    def slope(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        # the same draw at every stage of a stochastic divergence: the solver needs one smooth field
        generator = torch.Generator(y.device).manual_seed(seed)
        directions = divergence.directions(flow.manifold, y, generator)
        return flow.rate(t.to(y.dtype).expand(len(y)), y, directions, context)

    if checkpoint:
        slope = partial(recompute, slope, use_reentrant=False, preserve_rng_state=False)
    end, integral, count = integrate(slope, flow.manifold, x, flow.start, 1.0, tolerance, reached=reached)
    return flow.prior.log_prob(end) + integral + flow.boundary(x, context), count


@contextmanager
def derivatives_in(x: Tensor) -> Iterator[None]:
    """Within this block a graph is kept where points ``x`` ask for it, and only there.

    It ends inference mode too, in which a divergence could not be taken.
    """
    wanted = x.requires_grad and torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(wanted):
        yield


class ScoreLikelihood(ABC):
    """How the log-density of a score model is computed."""

    @abstractmethod
    def __call__(self, score: ScoreField, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density of ``x`` ``(B, *shape)``, or a bound on it."""

    def rough(self) -> ScoreLikelihood:
        """A cheaper way that is exact to some thousandths of a nat in the mean; itself where there is none."""
        return self


#: tolerance of `ODESolver.rough`. On a trained volcano model single precision at 1e-3 costs 4.6 times less than
#: double at 1e-5; it differs by -.001 nats in the mean, .05 at most, and the integral of the density by 2e-4
_ROUGH = 1e-3

#: below this tolerance "mixed" is "float64". On eleven trained models, resolved down to 1e-4 rad, the worst error of a
#: network in float32 was that of float64 at 1e-4 and at 1e-5; at 1e-6 up to four times as large (3e-5 against 9e-6)
_FINE = 1e-5


#: of the steps of samples, whose field becomes harder towards the data, so that longer ones are refused: on S² at 5e-4
#: 38 evaluations in the place of 49, at half the error
_SAFETY = 0.7


@dataclass(frozen=True)
class ODESolver(ScoreLikelihood):
    r"""How a flow is solved: log-densities from the data to the prior, samples the other way.

    A score model is solved as its `ScoreFlow`.

    The error is controlled in the maximum norm over all points of a batch: at an equal tolerance this takes more
    evaluations than the usual mean over the batch, and is more accurate at the worst point: 14 times on the sphere in
    ``tests/benchmarks/bench_likelihood.py``.

    Arguments:
        tolerance: of log-densities, relative and absolute, of the state and of the log-density
        dtype: "mixed" solves log-densities with state, drift and log-density in float64 and networks in their own
            precision, for 0.6 of the time, and samples in float32; either in float64 below a tolerance of 1e-5, where
            the rounding of a network in float32 would be seen. "float64" and "float32" are all of it, at any tolerance.
        divergence: exact by default
        batch_size: points solved together
        sample_tolerance: of samples, which nobody reads to as many digits, in radians on a unit sphere; None for 5e-4,
            or fifty times ``tolerance`` where that is less
    """

    tolerance: float = 1e-5
    dtype: Literal["mixed", "float64", "float32"] = "mixed"
    divergence: Divergence = Exact()
    batch_size: int = 1024
    sample_tolerance: float | None = None

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.batch_size < 1:
            raise ValueError(
                f"ODESolver: tolerance and batch_size must be positive, found {self.tolerance} and {self.batch_size}."
            )
        if self.sample_tolerance is not None and not self.sample_tolerance > 0:
            raise ValueError(f"ODESolver: sample_tolerance must be positive, found {self.sample_tolerance}.")

    def __call__(self, score: ScoreField, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density of ``x`` ``(B, *shape)`` under a score model; see `log_prob`."""
        return self.log_prob(ScoreFlow(score), x, context)

    def log_prob(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density of ``x`` ``(B, *shape)``.

        Raises:
            SolveError: if a solve fails
        """
        with derivatives_in(x):
            flow, x, context = _prepared(flow, x, context, self._precision(self.tolerance))
            solved = []
            with bar("log-densities", len(x)) as shown:
                for part, labels in batches(x, context, self.batch_size):
                    reached = _follow(shown, len(part))
                    solved.append(log_prob(flow, part, labels, self.tolerance, self.divergence, reached=reached))
        values, counts = zip(*solved, strict=True)
        return LogProb(torch.cat(values), sum(counts) / len(counts), solver=self.settings())

    def sample(
        self, flow: Flow, n: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """``n`` points ``(n, *shape)``: draws of the prior, carried back to the data. No divergence is computed.

        Raises:
            SolveError: if a solve fails
        """
        start, tolerance = flow.prior.draw(n, generator), self.sample_tolerance or min(5e-4, 50 * self.tolerance)
        precision = self._precision(tolerance)
        with derivatives_in(start):
            flow, x, context = _prepared(flow, start, context, "float32" if precision == "mixed" else precision)
            with bar("samples", n) as shown:
                parts = batches(x, context, self.batch_size)
                ends = [_back(flow, part, labels, tolerance, _follow(shown, len(part))) for part, labels in parts]
        return torch.cat(ends).to(start.dtype)

    def rough(self) -> ODESolver:
        """In single precision, with a tolerance that suits it."""
        return replace(self, tolerance=max(self.tolerance, _ROUGH), dtype="float32")

    def settings(self) -> dict[str, Any]:
        """Method, tolerance, dtype and divergence of log-densities, for the record."""
        divergence, dtype = f"{type(self.divergence).__name__} divergence", self._precision(self.tolerance)
        return {"method": "dopri5", "tolerance": self.tolerance, "dtype": dtype, "divergence": divergence}

    def _precision(self, tolerance: float) -> str:
        return "float64" if self.dtype == "mixed" and tolerance < _FINE else self.dtype


def batches(x: Tensor, context: Tensor | None, size: int) -> list[tuple[Tensor, Tensor | None]]:
    """Points in parts of at most ``size``, each with its context, if there is one."""
    parts = x.split(size)
    return list(zip(parts, [None] * len(parts) if context is None else context.split(size), strict=True))


def _back(flow: Flow, x: Tensor, context: Tensor | None, tolerance: float, reached: Callable[[float], None]) -> Tensor:
    """The points at the time of the data."""

    def slope(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return flow.velocity(t.to(y.dtype).expand(len(y)), y, context), y.new_zeros(len(y))

    return integrate(slope, flow.manifold, x, 1.0, flow.start, tolerance, reached=reached, safety=_SAFETY)[0]


def _prepared(flow: Flow, x: Tensor, context: Tensor | None, precision: str) -> tuple[Flow, Tensor, Tensor | None]:
    """Copies in the precision of a solve, outside of inference mode; the model stays as it is.

    Of a mixed one the networks of fields, which convert their inputs and outputs, are as they were.
    """
    dtype = torch.float32 if precision == "float32" else torch.float64
    flow = copy.deepcopy(flow).eval()
    fields = [part for part in flow.modules() if isinstance(part, NetworkField) and precision == "mixed"]
    kept = [next((p.dtype for p in field.network.parameters()), dtype) for field in fields]
    flow = flow.to(dtype)
    for field, own in zip(fields, kept, strict=True):
        field.network.to(own)
    return flow, flow.manifold.projx(x.clone().to(dtype)), None if context is None else context.clone().to(dtype)


def _follow(shown: tqdm, size: int) -> Callable[[float], None]:
    """Moves a bar of points by the share of the way that the next ``size`` of them have gone, never back."""
    before = shown.n

    def reached(share: float) -> None:
        shown.update(max(0.0, before + size * share - shown.n))

    return reached
