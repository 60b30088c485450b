"""Rejection sampling: the one loop, with an end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: of proposals; every envelope here accepts a quarter or more, so that not one of 1e12 draws comes near
_ROUNDS = 300


def first_accepted(
    propose: Callable[..., tuple[Tensor, Tensor]], event: tuple[int, ...], *parameters: Tensor
) -> Tensor:
    """For each draw the first of its proposals that is accepted, ``(*batch, *event)``; NaN where a parameter is.

    Each round proposes for the draws alone that are still open.

    Arguments:
        propose: gives of the parameters of m draws, ``(m, ...)`` each, proposals ``(m, *event)``, and whether each is
            accepted, ``(m,)``
        event: shape of a draw
        parameters: those of each draw, ``(*batch, ...)``; the first is ``batch``, a number for each, and may be NaN
            where there is no law

    Raises:
        RuntimeError: where something is still refused after 300 rounds: the envelope is not finite there
    """
    batch = parameters[0].shape
    values = [value.reshape(-1, *value.shape[len(batch) :]) for value in parameters]
    lawless = values[0].isnan()
    # of the first round all proposals are kept, and then replaced where they are refused
    drawn, accept = propose(*values)
    drawn[lawless] = torch.nan
    pending = (~(accept | lawless)).nonzero().squeeze(1)
    for _ in range(_ROUNDS):
        if not len(pending):
            return drawn.view(*batch, *event)
        proposal, accept = propose(*(value[pending] for value in values))
        drawn[pending[accept]] = proposal[accept]
        pending = pending[~accept]
    raise RuntimeError(
        f"Rejection sampling: {len(pending)} of {len(drawn)} draws were refused {_ROUNDS} times; parameters "
        "within the range of their floating point type are expected: choose less extreme ones, or float64."
    )
