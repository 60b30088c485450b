"""Flows for the benchmarks of log-densities and samples, and how peers solve them, by their formulas."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchdiffeq import odeint

import rsgm
from rsgm import FlowMatching, LawData, Sphere, Torus
from rsgm.distributions import RandomVonMisesFisherMixture, RandomWrappedNormalMixture
from rsgm.fields import DivergenceFreeField
from rsgm.likelihood.flows import Flow
from rsgm.manifolds import Manifold
from rsgm.networks import MLP, SiLU

STEPS = 1000


def trained(place: str, steps: int = STEPS) -> tuple[FlowMatching, LawData]:
    """A flow on "S2", "T2" or "T7" fitted to a mixture, and its data; the same at each call."""
    law = RandomVonMisesFisherMixture() if place == "S2" else RandomWrappedNormalMixture(Torus(int(place[1:])))
    data = LawData(law, train_size=5000, val_size=100, test_size=5000)
    network = partial(MLP, hidden=[256] * 3, activation=SiLU)
    torch.manual_seed(0)
    if place == "S2":
        model = FlowMatching(Sphere(2), network=network)
    else:
        model = FlowMatching(law.manifold, network=network, field=DivergenceFreeField)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    rsgm.fit(model, data, steps=steps, accelerator="cpu", enable_progress_bar=False)
    return model, data


def mean_norm_log_prob(flow: Flow, x: Tensor, tolerance: float = 1e-5) -> Tensor:
    """The log-density as riemannian-fm computes it: all of it in float32, the divergence the trace of a Jacobian.

    Its dopri5 controls the mean of the squared errors over the whole batch (Chen and Lipman 2024, arXiv:2302.03660).
    """
    manifold, shape = flow.manifold, x.shape

    def slope(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        def velocity(y: Tensor) -> Tensor:
            return flow.velocity(t.expand(1), y.reshape(1, *shape[1:])).flatten()

        y = manifold.projx(state[0]).flatten(1)
        jacobian = torch.func.vmap(torch.func.jacrev(velocity))(y)
        return flow.velocity(t.expand(len(y)), y.reshape(shape)), jacobian.diagonal(dim1=1, dim2=2).sum(1)

    times = torch.tensor([flow.start, 1.0])
    with torch.no_grad():
        end, integral = odeint(slope, (x, x.new_zeros(len(x))), times, rtol=tolerance, atol=tolerance, method="dopri5")
        return flow.prior.log_prob(manifold.projx(end[-1])) + integral[-1]


def mean_norm_sample(flow: Flow, x: Tensor, tolerance: float = 1e-5) -> Tensor:
    """The data of noise ``x`` as riemannian-fm draws them: dopri5 in float32, with the mean as above."""

    def slope(t: Tensor, y: Tensor) -> Tensor:
        return flow.velocity(t.expand(len(y)), flow.manifold.projx(y))

    times = torch.tensor([1.0, flow.start])
    with torch.no_grad():
        return flow.manifold.projx(odeint(slope, x, times, rtol=tolerance, atol=tolerance, method="dopri5")[-1])


def midpoint_sample(flow: Flow, x: Tensor, steps: int = 20) -> Tensor:
    """As flow_matching's Riemannian solver does: steps of the midpoint rule, each projected (Lipman et al. 2024,
    arXiv:2412.06264)."""
    manifold: Manifold = flow.manifold
    velocity: Callable[..., Tensor] = flow.velocity
    h = (flow.start - 1.0) / steps
    with torch.no_grad():
        for k in range(steps):
            t = x.new_full((len(x),), 1.0 + k * h)
            half = manifold.projx(x + h / 2 * velocity(t, x))
            x = manifold.projx(x + h * velocity(t + h / 2, half))
    return x
