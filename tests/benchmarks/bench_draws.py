"""What draws and densities of von Mises-Fisher laws cost beside scipy's.

python tests/benchmarks/bench_draws.py [--rounds 7]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy.stats import vonmises_fisher
from timing import Row, measure, show

from rsgm import Sphere
from rsgm.distributions import VonMisesFisher

#: dimension, concentration, number of draws
CASES = ((2, 15.0, 100_000), (9, 50.0, 100_000), (99, 200.0, 20_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    show(rows(parser.parse_args().rounds))


def rows(rounds: int = 7) -> Iterator[Row]:
    """Three dimensions, both precisions."""
    for dim, kappa, n in CASES:
        mean = Sphere(dim).origin(dim + 1, dtype=torch.float64)
        law, generator, numbers = vonmises_fisher(mean.numpy(), kappa), seeded(), np.random.default_rng(0)
        x = torch.from_numpy(law.rvs(n, random_state=numbers))
        own = {dtype: VonMisesFisher(Sphere(dim), mean.to(dtype), kappa) for dtype in (torch.float32, torch.float64)}
        draws = {str(dtype)[6:]: partial(found.draw, n, generator) for dtype, found in own.items()}
        times = measure(draws | {"scipy": partial(law.rvs, n, random_state=numbers)}, rounds)
        for name in draws:
            yield Row(f"von Mises-Fisher draws, S{dim}, {name}", "rsgm", "scipy", times.ratio(name, "scipy"), 1.0)
        densities = {str(dtype)[6:]: partial(found.log_prob, x.to(dtype)) for dtype, found in own.items()}
        times = measure(densities | {"scipy": partial(law.logpdf, x.numpy())}, rounds)
        for name in densities:
            yield Row(f"von Mises-Fisher density, S{dim}, {name}", "rsgm", "scipy", times.ratio(name, "scipy"), 1.0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
