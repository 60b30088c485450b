"""Rejection sampling: the one loop, with an end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: of proposals; every envelope here accepts a quarter or more, so that not one of 1e12 draws comes near
_ROUNDS = 300


def first_accepted(like: Tensor, event: tuple[int, ...], propose: Callable[[], tuple[Tensor, Tensor]]) -> Tensor:
    """For each element the first of its proposals that is accepted; NaN where ``like`` is.

    Arguments:
        like: one number for each draw, NaN where there is no law
        event: shape of a draw
        propose: gives proposals ``(*like.shape, *event)``, and whether each is accepted

    Raises:
        RuntimeError: where something is still refused after 300 rounds: the envelope is not finite there
    """
    pad = (..., *(None,) * len(event))
    pending, drawn = ~like.isnan(), like.new_full((*like.shape, *event), torch.nan)
    for _ in range(_ROUNDS):
        if not bool(pending.any()):
            return drawn
        proposal, accept = propose()
        drawn = torch.where((pending & accept)[pad], proposal, drawn)
        pending = pending & ~accept
    raise RuntimeError(
        f"Rejection sampling: {int(pending.sum())} of {pending.numel()} draws were refused {_ROUNDS} times; parameters "
        "within the range of their floating point type are expected: choose less extreme ones, or float64."
    )
