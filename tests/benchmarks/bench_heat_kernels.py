"""What exact heat kernels cost beside the eigenfunction series cut after 100 terms, which is wrong at early times.

    python tests/benchmarks/bench_heat_kernels.py [--rounds 7] [--points 65536]

Log-density and score of noisy points at times of the default process on S², in float32 and float64.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import partial

import torch
from timing import Row, measure, show
from torch import Tensor

from rsgm.heat_kernels import SPHERE2
from rsgm.schedules import LinearBeta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--points", type=int, default=65_536)
    options = parser.parse_args()
    show(rows(options.rounds, options.points))


def rows(rounds: int = 7, points: int = 65_536) -> Iterator[Row]:
    """Both precisions."""
    for dtype, reach in ((torch.float32, 0.5), (torch.float64, 1.5)):
        generator = torch.Generator().manual_seed(0)
        t = torch.rand(points, generator=generator, dtype=dtype).clamp_min(1e-3)
        s = LinearBeta().integral(t)
        distance = SPHERE2.sample_distance(torch.randn(points, 2, generator=generator, dtype=dtype).norm(dim=-1), s)
        cases = {
            "rsgm": partial(SPHERE2.evaluate, distance, s, math.pi - distance),
            "series": partial(series, distance, s),
        }
        ratio = measure(cases, rounds).ratio("rsgm", "series")
        yield Row(f"S2 heat kernel and score, {str(dtype)[6:]}", "rsgm", "100 terms", ratio, reach)


def series(distance: Tensor, s: Tensor, terms: int = 100) -> tuple[Tensor, Tensor]:
    """Log-density and score by Legendre's recurrence."""
    x = distance.cos()
    last, now = torch.zeros_like(x), torch.ones_like(x)
    last_slope, slope = torch.zeros_like(x), torch.zeros_like(x)
    total, total_slope = torch.zeros_like(x), torch.zeros_like(x)
    for l in range(terms):
        weight = (2 * l + 1) * (-l * (l + 1) / 2 * s).exp()
        total, total_slope = total + weight * now, total_slope + weight * slope
        # (l + 1) P_{l+1} = (2 l + 1) x P_l - l P_{l-1}, and P'_{l+1} = P'_{l-1} + (2 l + 1) P_l
        last, now, last_slope, slope = (
            now,
            ((2 * l + 1) * x * now - l * last) / (l + 1),
            slope,
            last_slope + (2 * l + 1) * now,
        )
    return total.log() - math.log(4 * math.pi), -distance.sin() * total_slope / total


if __name__ == "__main__":
    main()
