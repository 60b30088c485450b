"""Classes: contexts that are few, so that each has points enough for a density and a picture of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.data import ManifoldData

#: most classes; fewest training points of one
MOST, FEWEST = 20, 50


class Classes(NamedTuple):
    """The contexts of data that are few.

    Fields:
        contexts: ``(k, features)``, that of most training points first
        names: of the contexts
    """

    contexts: Tensor
    names: list[str]

    def of(self, context: Tensor) -> Tensor:
        """The class of each context ``(n, features)``: its number, ``(n,)``, or -1 for none."""
        same = (context[:, None].to(self.contexts) == self.contexts).all(-1)
        return torch.where(same.any(1), same.long().argmax(1), -1)


def classes(data: ManifoldData) -> Classes:
    """The classes of conditional data, by their training points.

    Raises:
        ValueError: contexts that are too many, or too rare, or of which the other parts have further ones
    """
    contexts, count = torch.unique(data.train.context, dim=0, return_counts=True)
    if len(contexts) > MOST or int(count.min()) < FEWEST:
        raise ValueError(
            f"{len(contexts):,} contexts, the rarest with {int(count.min()):,} training points; kernels take up to "
            f"{MOST} with at least {FEWEST} each"
        )
    contexts = contexts[count.argsort(descending=True, stable=True)]
    found = Classes(contexts, _names(data, contexts))
    for name, part in (("validation", data.val), ("test", data.test)):
        of = found.of(part.context)
        if bool((of < 0).any()):
            raise ValueError(f"a context of {name} points that no training point has")
    if missing := set(range(len(contexts))) - set(found.of(data.val.context).tolist()):
        raise ValueError(f"no validation point given {found.names[min(missing)]}, by which widths are weighted")
    return found


def _names(data: ManifoldData, contexts: Tensor) -> list[str]:
    if not data.context_names:
        return [f"context {k + 1}" for k in range(len(contexts))]
    rows = data.decode_context(contexts)
    return [", ".join(f"{n}={cell}" for n, cell in zip(data.context_names, row, strict=True)) for row in rows]
