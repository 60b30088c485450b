"""What sums of kernels over many points cost beside all pairs, in one run.

    python tests/benchmarks/bench_kernels.py [--rounds 3] [--points 5000] [--centres 500000]

Prints CPU seconds of one thread (the least of the rounds, which are interleaved) on the sphere, and ratios. One pass is
one exponential of one width for all pairs. For many centres, all pairs are extrapolated from few of the queries.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from rsgm import KernelDensity, Sphere
from rsgm.models.bump_sums import BumpSums

SPHERE = Sphere(2)
#: queries from which all pairs are extrapolated
FEW = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--centres", type=int, default=500_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    n, widths = options.points, KernelDensity(SPHERE).widths
    x = SPHERE.random_uniform(n + options.centres, 3, generator=generator, dtype=torch.float64)
    x, centres = x[:n], x[n:]
    cases = {
        "sums": lambda: sums(x, centres[:n], widths),
        "one pass": lambda: all_pairs(x, centres[:n], widths[-1:]),
        "all pairs": lambda: all_pairs(x, centres[:n], widths),
        "sums, many": lambda: sums(x, centres, widths),
        "all pairs, many": lambda: all_pairs(x[:FEW], centres, widths),
    }
    least = {name: min(seconds(case) for _ in range(options.rounds)) for name, case in cases.items()}
    least["all pairs, many"] *= n / FEW
    print(f"{len(widths)} widths; 'many' are {len(centres)} centres, else {n}; {n} points")
    for name, value in least.items():
        print(f"{name:<16} {value:9.3f} s CPU")
    for top, bottom in (
        ("sums", "one pass"),
        ("sums", "all pairs"),
        ("all pairs", "sums"),
        ("all pairs, many", "sums, many"),
    ):
        print(f"{top} / {bottom:<16} {least[top] / least[bottom]:.2f}")


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


def seconds(case: Callable[[], Tensor]) -> float:
    start = time.process_time()
    case()
    return time.process_time() - start


if __name__ == "__main__":
    main()
