"""The packages of others themselves, beside this one, for whoever has them.

    pip install flow_matching torchcfm zuko scipy scikit-learn
    python tests/benchmarks/peers.py > docs/tables/peers.md

A package that is not there leaves its rows out, and is named. The same networks, data and noise, CPU time of one
thread, ratios of interleaved rounds; below 1 this package is faster. What the rows of `python tests/benchmarks` write
by formulas is here called: the ratios should agree.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import warnings
from collections.abc import Callable, Iterator

import bench_draws
import torch
from bench_samples import SAMPLES, own_sample
from bench_step import BATCH, NETWORK, step
from flows import trained
from timing import HEADER, Row, measure, table
from torch import Tensor

from rsgm import Euclidean, FlowMatching, KernelDensity, Sphere, SplineFlow, Torus
from rsgm.likelihood import ODESolver
from rsgm.likelihood.flows import Flow

POINTS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(HEADER, flush=True)
    for rows in (torchcfm, flow_matching, zuko, scipy, scikit_learn):
        try:
            table(rows(rounds))
        except ModuleNotFoundError as error:
            print(f"{rows.__name__}: left out, for there is no {error.name}", file=sys.stderr)


def torchcfm(rounds: int) -> Iterator[Row]:
    """A step of training in the plane."""
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

    matcher, x = ConditionalFlowMatcher(sigma=0.0), torch.randn(BATCH, 2)
    model = FlowMatching(Euclidean(2), NETWORK)

    def loss(x1: Tensor) -> Tensor:
        t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        return ((model.flow.field.network(t, xt) - ut) ** 2).mean()

    times = measure({"rsgm": step(model, x), "torchcfm": step(model, x, loss)}, rounds)
    yield Row("flow-matching step, R2", "rsgm", "torchcfm", times.ratio("rsgm", "torchcfm"), 1.0)


def flow_matching(rounds: int) -> Iterator[Row]:
    """A step and samples on the sphere, a density in the plane."""
    from flow_matching.path import GeodesicProbPath
    from flow_matching.path.scheduler import CondOTScheduler
    from flow_matching.solver import ODESolver as PeerSolver
    from flow_matching.solver import RiemannianODESolver
    from flow_matching.utils.manifolds import Sphere as PeerSphere

    path, x = GeodesicProbPath(CondOTScheduler(), PeerSphere()), Sphere(2).random_uniform(BATCH, 3)
    model = FlowMatching(Sphere(2), NETWORK)

    def loss(x1: Tensor) -> Tensor:
        drawn = path.sample(x_0=Sphere(2).random_uniform(*x1.shape), x_1=x1, t=torch.rand(len(x1)))
        error = model.manifold.proju(drawn.x_t, model.flow.field.network(drawn.t[:, 0], drawn.x_t)) - drawn.dx_t
        return error.square().mean()

    times = measure({"rsgm": step(model, x), "peer": step(model, x, loss)}, rounds)
    yield Row("flow-matching step, S2", "rsgm", "flow_matching", times.ratio("rsgm", "peer"), 1.0)

    flow = copy.deepcopy(trained("S2")[0].flow).eval()
    noise = flow.prior.draw(SAMPLES, torch.Generator().manual_seed(0))
    solver = RiemannianODESolver(PeerSphere(), reversed_velocity(flow))
    times = measure(
        {
            "rsgm": lambda: own_sample(flow, ODESolver()),
            "peer": lambda: solver.sample(noise, step_size=0.05, method="midpoint"),
        },
        rounds,
    )
    yield Row(f"{SAMPLES} samples, S2", "rsgm", "flow_matching, midpoint 20", times.ratio("rsgm", "peer"), 1.2)

    plane = FlowMatching(Euclidean(2), NETWORK).flow.eval()
    x = torch.randn(POINTS, 2)
    peer = PeerSolver(reversed_velocity(plane))

    def log_prob(x0: Tensor) -> Tensor:
        return -0.5 * x0.square().sum(1) - math.log(2 * math.pi)

    times = measure(
        {
            "rsgm": lambda: ODESolver().log_prob(plane, x.double()),
            "peer": lambda: peer.compute_likelihood(x, log_prob, None, method="dopri5", exact_divergence=True),
        },
        rounds,
    )
    yield Row(f"log-density of {POINTS} points, R2, 1e-5", "rsgm", "flow_matching", times.ratio("rsgm", "peer"), 0.9)


def zuko(rounds: int) -> Iterator[Row]:
    """The price of an ODE on the torus of seven circles, and what this package's splines, which are zuko's, add."""
    from zuko.flows import NCSF

    model, data = trained("T7", 300)
    x = data.test.points[:POINTS].double()
    splines, peer = SplineFlow(Torus(7)), NCSF(7, transforms=4, hidden_features=(256, 256))
    angles = torch.atan2(x[..., 1], x[..., 0]).float()
    with torch.no_grad():
        times = measure(
            {
                "flow": lambda: ODESolver().log_prob(model.flow, x),
                "splines": lambda: splines.log_prob(x),
                "peer": lambda: peer().log_prob(angles),
            },
            rounds,
        )
    yield Row("log-density, T7", "FlowMatching", "zuko", times.ratio("flow", "peer"), 120)
    yield Row("log-density, T7", "SplineFlow", "zuko", times.ratio("splines", "peer"), 1.2)


def scipy(rounds: int) -> Iterator[Row]:
    """Draws and densities of von Mises-Fisher laws."""
    yield from bench_draws.rows(rounds)


def scikit_learn(rounds: int) -> Iterator[Row]:
    """All widths of a kernel density on the sphere beside one width, exact and with a relative error of 1e-4."""
    from sklearn.neighbors import KernelDensity as Peer

    x = Sphere(2).random_uniform(2 * SAMPLES, 3, generator=torch.Generator().manual_seed(0)).double()
    centres, x = x.split(SAMPLES)
    model = KernelDensity(Sphere(2))
    model.fit_points(centres, x[:200])
    angles = [torch.stack([y[:, 2].asin(), torch.atan2(y[:, 1], y[:, 0])], 1).numpy() for y in (centres, x)]
    peers = {
        name: Peer(bandwidth=0.05, metric="haversine", rtol=rtol).fit(angles[0])
        for name, rtol in (("exact", 0.0), ("1e-4", 1e-4))
    }
    cases: dict[str, Callable[[], object]] = {"rsgm": lambda: model.log_prob(x)}
    cases |= {name: lambda peer=peer: peer.score_samples(angles[1]) for name, peer in peers.items()}
    times = measure(cases, rounds)
    what = f"kernel density, {SAMPLES} x {SAMPLES}"
    for name in peers:
        widths = f"{len(model.widths)} widths"
        yield Row(what, widths, f"scikit-learn, one width, {name}", times.ratio("rsgm", name), 1.0)


def reversed_velocity(flow: Flow) -> Callable[..., Tensor]:
    """From noise at 0 to data at 1."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return -flow.velocity((1 - t).expand(len(x)), x)

    return velocity


if __name__ == "__main__":
    main()
