"""What sums of kernels over many points cost beside all pairs.

    python tests/benchmarks/bench_kernels.py [--rounds 3] [--points 5000] [--centres 500000]

On the sphere, with the widths of the default kernel density. All pairs, an exponential of one width for each, are
extrapolated from few of the queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import torch
from timing import Row, measure, show
from torch import Tensor
from tqdm import tqdm

from rsgm import KernelDensity, Sphere
from rsgm.models.bump_sums import BumpSums

SPHERE = Sphere(2)
#: queries from which all pairs are extrapolated
FEW = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--centres", type=int, default=500_000)
    options = parser.parse_args()
    show(rows(options.rounds, options.points, options.centres))


def rows(rounds: int = 3, points: int = 5000, centres: int = 500_000) -> Iterator[Row]:
    """As many centres as queries, and many."""
    generator, widths = torch.Generator().manual_seed(0), KernelDensity(SPHERE).widths
    x = SPHERE.random_uniform(points + centres, 3, generator=generator, dtype=torch.float64)
    x, places = x[:points], x[points:]
    for count, reach in ((points, 1 / 25), (centres, 1 / 500)):
        cases = {
            "sums": partial(sums, x, places[:count], widths),
            "pairs": partial(all_pairs, x[:FEW], places[:count], widths),
        }
        ratio = measure(cases, rounds).ratio("sums", "pairs") * FEW / points
        what = f"kernel sums, {points} x {count}, {len(widths)} widths"
        yield Row(what, "rsgm", "all pairs", ratio, reach)


def sums(x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    return BumpSums(SPHERE, centres, widths)(x, tqdm(disable=True))


def all_pairs(x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    """Plainly: an exponential for each pair and width, few pairs at a time."""
    rows = max(1, 2**18 // (len(widths) * len(centres)))
    parts = [torch.zeros(0, len(widths), dtype=x.dtype)]
    for chunk in x.split(rows):
        total = 0.0
        for some in centres.split(2**18 // len(widths)):
            total = total + SPHERE.bump_log_prob(chunk[:, None, None], some, widths[:, None]).exp_().sum(-1)
        parts.append(total)
    return torch.cat(parts)


if __name__ == "__main__":
    main()
