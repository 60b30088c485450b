"""Log-densities of more points than memory has room for at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rsgm.likelihood.solver import LogProb, batches
from rsgm.progress import bar

#: most points of one part: more than any test set of a documented experiment, whose digits a part does not change
PART = 2**14


def in_parts(likelihood: Callable[[Tensor, Tensor | None], LogProb], x: Tensor, context: Tensor | None) -> LogProb:
    """The log-density of any number of points, of at most `PART` at a time, with a bar where there are more.

    What one part needs of memory is free again before the next, unless a gradient is asked for, whose history is kept.

    Arguments:
        likelihood: of points ``(B, *shape)`` and their context ``(B, features)``
        x: points ``(n, *shape)``, one at least
        context: ``(n, features)``, if there is one
    """
    if len(x) <= PART:
        return likelihood(x, context)
    parts, sizes = [], []
    with bar("log-densities of all points", len(x)) as shown:
        for part, labels in batches(x, context, PART):
            parts.append(likelihood(part, labels))
            sizes.append(len(part))
            shown.update(len(part))
    nfe = sum(part.nfe * size for part, size in zip(parts, sizes, strict=True)) / len(x)
    draws = None if parts[0].draws is None else torch.cat([part.draws for part in parts])
    value, exact = torch.cat([part.value for part in parts]), all(part.exact for part in parts)
    return LogProb(value, nfe, exact, parts[0].solver, draws)
