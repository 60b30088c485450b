"""What exact log-densities cost beside riemannian-fm's solve, at an equal tolerance and at an equal worst error.

    python tests/benchmarks/bench_likelihood.py

One network each on S² and T⁷, 512 points, CPU time of one thread, ratios of interleaved rounds. The peer's solve is
written by its formula with torchdiffeq (`flows.mean_norm_log_prob`). "Equal worst
error": the loosest tolerance of a list at which the largest error is that of the peer at 1e-5, or less; errors are
against a solve at 1e-9.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from flows import mean_norm_log_prob, trained
from timing import Row, measure, show
from torch import Tensor

from rsgm.likelihood import ODESolver
from rsgm.likelihood.flows import Flow
from rsgm.models import SplineFlow

POINTS = 512
LOOSER = [10 ** (-k / 8) for k in range(16, 41)]


def rows(rounds: int = 5) -> Iterator[Row]:
    """One on S² for each claim, and the price of an ODE on T⁷."""
    model, data = trained("S2")
    x, flow = data.test.points[:POINTS].double(), copy.deepcopy(model.flow).eval()
    fine = ODESolver(tolerance=1e-9).log_prob(flow, x).value

    def error(value: Tensor) -> float:
        return float((value.double() - fine).abs().max())

    peer = error(mean_norm_log_prob(flow, x.float()))
    equal = next(t for t in LOOSER if error(ODESolver(tolerance=t).log_prob(flow, x).value) <= peer)
    cases = {
        "default": lambda: ODESolver().log_prob(flow, x),
        "float64": lambda: ODESolver(dtype="float64").log_prob(flow, x),
        "equal": lambda: ODESolver(tolerance=equal).log_prob(flow, x),
        "peer": lambda: mean_norm_log_prob(flow, x.float()),
    }
    own = error(ODESolver().log_prob(flow, x).value)
    times = measure(cases, rounds)
    yield Row(f"S2 log-density, 1e-5, {POINTS} points", "default", "riemannian-fm", times.ratio("default", "peer"), 0.9)
    yield Row("its worst error", "default", "riemannian-fm", own / peer, 0.1)
    yield Row(
        f"equal worst error ({peer:.0e}; {equal:g})", "default", "riemannian-fm", times.ratio("equal", "peer"), 0.4
    )
    yield Row("network in float32", "mixed", "float64", times.ratio("default", "float64"), 0.7)
    yield _splines(rounds)


def _splines(rounds: int) -> Row:
    model, data = trained("T7", 300)
    x = data.test.points[:POINTS].double()
    flow: Flow = model.flow
    splines = SplineFlow(data.manifold)
    cases = {"flow": lambda: ODESolver().log_prob(flow, x), "splines": lambda: splines.log_prob(x)}
    return Row(
        "T7 log-density: the price of an ODE", "flow", "zuko", measure(cases, rounds).ratio("flow", "splines"), 120
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(rows())
