"""What 5,000 samples of a flow cost beside riemannian-fm's and flow_matching's ways, with the error of each.

    python tests/benchmarks/bench_samples.py

The same network and the same noise, CPU time of one thread, ratios of interleaved rounds. The peers' ways are written
by their formulas. Errors are root mean squares of the distances of end points from those of a solve at 1e-9.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from flows import mean_norm_sample, midpoint_sample, trained
from timing import Row, measure, show
from torch import Tensor

from rsgm.likelihood import ODESolver
from rsgm.likelihood.flows import Flow

SAMPLES = 5000


def rows(rounds: int = 5) -> Iterator[Row]:
    """Of time and of error, on S² and T²."""
    for place in ("S2", "T2"):
        model, _ = trained(place)
        flow = copy.deepcopy(model.flow).eval()
        noise = flow.prior.draw(SAMPLES, torch.Generator().manual_seed(0))
        fine = own_sample(flow, ODESolver(tolerance=1e-11, sample_tolerance=1e-9))

        def error(x: Tensor, flow: Flow = flow, fine: Tensor = fine) -> float:
            return float(flow.manifold.dist(x.double(), fine).square().mean().sqrt())

        cases = {
            "own": lambda flow=flow: own_sample(flow, ODESolver()),
            "dopri5": lambda flow=flow, noise=noise: mean_norm_sample(flow, noise),
            "midpoint": lambda flow=flow, noise=noise: midpoint_sample(flow, noise),
        }
        errors = {name: error(case()) for name, case in cases.items()}
        times = measure(cases, rounds)
        what = f"{place}, {SAMPLES} samples"
        yield Row(what, "default", "riemannian-fm, dopri5 1e-5", times.ratio("own", "dopri5"), 0.8)
        yield Row(what, "default", "flow_matching, midpoint 20", times.ratio("own", "midpoint"), 1.2)
        found = f"{place}, error {errors['own']:.1e}"
        yield Row(found, "default", f"midpoint 20 ({errors['midpoint']:.1e})", errors["own"] / errors["midpoint"], 0.5)


def own_sample(flow: Flow, solver: ODESolver) -> Tensor:
    """Of the same noise at each call."""
    return solver.sample(flow, SAMPLES, generator=torch.Generator().manual_seed(0)).double()


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(rows())
