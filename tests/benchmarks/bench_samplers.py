"""How far samples are from the law that is scored, with the exact score: by law, by stepper, by evaluations.

    python tests/benchmarks/bench_samplers.py [--table default|evaluations] [--places S2 T2] [--scales 0.1 0.01]
        [--draws 50000] [--beta-1 5]

The first table is that of the default sampler. The second one gives each stepper a number of evaluations of the score,
the last move included; the flow's own have 18 more, at t = 1. ratio: of E d² to the nearest centre, to that of true
draws; gap: E[-log p] of the samples less that of true draws, nats; weights: the worst centre's share, in standard
errors.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from exact_laws import PLACES, SCALES, STATIONARY, Comparison, Law, Stationary, compare, mixture
from rsgm.processes import Langevin
from rsgm.samplers import GeodesicEulerMaruyama, Heun, PredictorCorrector, ReverseDiffusion, RungeKutta, Stepper
from rsgm.schedules import DeviationGrid, LinearBeta, TimeGrid, UniformTimeGrid

#: by name the stepper, its grid and its evaluations in a step
STEPPERS: dict[str, tuple[Stepper, TimeGrid, int]] = {
    "RungeKutta": (RungeKutta(), DeviationGrid(), 4),
    "Heun": (Heun(), DeviationGrid(), 2),
    "flow, Euler": (GeodesicEulerMaruyama(1.0), DeviationGrid(), 1),
    "EulerMaruyama": (GeodesicEulerMaruyama(), DeviationGrid(), 1),
    "PredictorCorrector": (PredictorCorrector(), DeviationGrid(), 2),
    "EulerMaruyama, uniform (paper)": (GeodesicEulerMaruyama(), UniformTimeGrid(), 1),
}
EVALUATIONS = (8, 16, 32, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=["default", "evaluations"], default="default")
    parser.add_argument("--places", nargs="+", choices=[*PLACES, *STATIONARY], default=[*PLACES, "H2"])
    parser.add_argument("--scales", nargs="+", type=float, default=list(SCALES), help="of the heat kernels, radians")
    parser.add_argument("--steppers", nargs="+", choices=list(STEPPERS), default=list(STEPPERS))
    parser.add_argument("--evaluations", nargs="+", type=int, default=list(EVALUATIONS))
    parser.add_argument("--draws", type=int, default=50_000)
    parser.add_argument("--beta-1", type=float, default=LinearBeta().beta_1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    default = options.table == "default"
    columns = f"{'ratio':>15} {'gap':>16} {'weights':>8} {'calls':>6} {'CPU s':>6}"
    print(f"{'law':<16} {'stepper':<31} {columns}")
    progress = tqdm([*_laws(options.places, options.scales, LinearBeta(beta_1=options.beta_1))], unit="law")
    for name, law in progress:
        progress.set_postfix_str(name)
        samplers = {"default": ReverseDiffusion()} if default else _samplers(options.steppers, options.evaluations)
        for label, sampler in samplers.items():
            start = time.process_time()
            found = compare(law, sampler, options.draws)
            seconds = time.process_time() - start
            mark = ("" if found.right() else "  not right") if default else ""
            progress.write(f"{name:<16} {label:<31} {_row(found)} {seconds:6.1f}{mark}")


def _laws(places: list[str], scales: list[float], schedule: LinearBeta) -> list[tuple[str, Law]]:
    laws: list[tuple[str, Law]] = []
    for place in places:
        if place in STATIONARY:
            laws.append((place, Stationary(Langevin(STATIONARY[place], schedule))))
        else:
            laws += [(f"{place} {scale:g}", mixture(place, scale, schedule)) for scale in scales]
    return laws


def _samplers(names: list[str], evaluations: list[int]) -> dict[str, ReverseDiffusion]:
    samplers = {}
    for name in names:
        stepper, grid, cost = STEPPERS[name]
        for count in evaluations:
            samplers[f"{name} {count}"] = ReverseDiffusion(max(1, (count - 1) // cost), stepper, grid)
    return samplers


def _row(found: Comparison) -> str:
    return (
        f"{found.ratio:7.4f} ±{found.ratio_error:.4f} {found.gap:+8.4f} ±{found.gap_error:.4f} "
        f"{found.weights:8.1f} {found.evaluations:6d}"
    )


if __name__ == "__main__":
    main()
