"""What a diffusion does over time, for those who want to look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.processes import ScoreField
from rsgm.samplers import Sampler

#: times of the forward process; most points on their way back, and most of the states of one way
_TIMES, _WALKERS, _STATES = 8, 100, 200


class Dynamics(NamedTuple):
    """The two directions of a diffusion.

    Fields:
        times: ``(k,)``, from the data to the prior
        noised: ``(k, n, *shape)``, the same points at each time, each with noise of its own
        paths: by name of the sampler the ways from its start to its samples, ``(states, m, *shape)``
        score: at one of the times, ``(), (B, *shape) -> (B, *shape)``
    """

    times: Tensor
    noised: Tensor
    paths: dict[str, Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def dynamics_of(score: ScoreField, sampler: Sampler, x: Tensor, generator: torch.Generator) -> Dynamics:
    """The dynamics of a score model, without context.

    Arguments:
        score: the model
        sampler: how it samples; its variants are followed too
        x: data points ``(n, *shape)``
        generator: of the noise; every sampler starts from the same state of it
    """
    process = score.process
    x = x.to(torch.get_default_dtype())  # that of priors, and so of samplers
    times = torch.linspace(process.eps, 1, _TIMES, dtype=x.dtype, device=x.device)
    noised = torch.stack([process.perturb(x, t.expand(len(x)), generator) for t in times])
    seed = generator.initial_seed()

    def follow(variant: Sampler) -> Tensor:
        start = torch.Generator(generator.device).manual_seed(seed)
        states = list(variant.states(score, min(len(x), _WALKERS), None, start))
        every = -(-len(states) // _STATES)
        # the last state, of all, is a sample
        return torch.stack(states[::-1][::every][::-1])

    @torch.no_grad()
    def at(t: Tensor, y: Tensor) -> Tensor:
        return score(t.to(y).expand(len(y)), y)

    return Dynamics(times, noised, {name: follow(v) for name, v in sampler.variants().items()}, at)
