"""Answers in rows of a table: how surprising each row is, and rows that a model draws."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.data import ManifoldData, Rows
from rsgm.evaluation.figures import contexts_like
from rsgm.models import GenerativeModel

#: draws against which rows are held, and the fewest of one context
_DRAWS, _FEWEST = 2000, 200
#: most draws of all contexts together
_MOST = 40_000


class Columns(NamedTuple):
    """Rows of text under their names."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def score_rows(model: GenerativeModel, data: ManifoldData, rows: Rows, seed: int = 0) -> Columns:
    r"""Rows as they were, and what a model says of each.

    - ``log_prob``: the log-density, nats, by the unit of the columns where they are numbers on a line, and by radian,
      steradian or the volume of rotations elsewhere;
    - ``percentile``: of its density among training points, 0 for less than all of them;
    - ``tail_probability``: :math:`P(p(X) < p(x))` of the model's own draws X, given the same context: near 0 for a row
      that the model would hardly draw. Left out, with a warning, where there are too many contexts to draw for each.

    The latter two compare densities by the volume of the manifold, where logarithms are numbers if they are taken.

    Arguments:
        model: the law
        data: that know the columns
        rows: of a file; see `ManifoldData.read_rows`
        seed: of the draws
    """
    density = model.log_prob(rows.points, _for_model(rows.context)).double().cpu()
    known = model.log_prob(data.train.points, _for_model(data.train.context)).double().cpu()
    known = known.sort().values
    below, upto = (torch.searchsorted(known, density, right=right) for right in (False, True))
    found = {
        "log_prob": density + data.log_unit(rows.points),
        "percentile": 50.0 * (below + upto) / len(known),
        "tail_probability": _tail(model, density, rows.context, seed),
    }
    added = {
        name: [f"{value:.7g}" for value in column.tolist()] for name, column in found.items() if column is not None
    }
    # a file that was scored before has these names already
    taken = set(rows.header)
    names = [name if name not in taken else f"{name}_{type(model).__name__}" for name in added]
    cells = zip(rows.cells, *added.values(), strict=True)
    return Columns([*rows.header, *names], [[*own, *more] for own, *more in cells])


def draw_rows(
    model: GenerativeModel,
    data: ManifoldData,
    n: int,
    given: Mapping[str, str] | None = None,
    seed: int | None = None,
) -> Columns:
    """Rows that a model draws: points in the units and columns of the data, and their contexts beside.

    Arguments:
        model: the law
        data: that know the columns
        n: how many
        given: the context of all rows, by name; without it those of training points, in turn
        seed: of the draws; None for a fresh one

    Raises:
        ValueError: a context that is incomplete or unknown, or one where there is none
    """
    context = data.train.context
    if given:
        context = data.encode_context({name: [value] for name, value in given.items()})
    context = contexts_like(model, data.train._replace(context=context), n)
    points = model.sample(n, context, seed).double().cpu()
    rows = [[f"{value:.7g}" for value in row] for row in data.to_units(points)]
    if context is None or not data.context_names:
        return Columns(data.header, rows)
    known = data.decode_context(context.double().cpu())
    return Columns([*data.header, *data.context_names], [[*row, *more] for row, more in zip(rows, known, strict=True)])


def _tail(model: GenerativeModel, density: Tensor, context: Tensor | None, seed: int) -> Tensor | None:
    """The share of a model's own draws, under the context of each row, that have a lower density."""
    if context is None:
        of_row, contexts = torch.zeros(len(density), dtype=torch.long), None
        count, each = 1, _DRAWS
    else:
        contexts, of_row = torch.unique(context, dim=0, return_inverse=True)
        count = len(contexts)
        each = min(_DRAWS, _MOST // count)
        if each < _FEWEST:
            warnings.warn(
                f"The rows have {count} contexts, and tail probabilities need draws of each: they are left out. "
                f"Expected at most {_MOST // _FEWEST} contexts.",
                stacklevel=3,
            )
            return None
        contexts = _for_model(contexts).repeat_interleave(each, 0)
    points = model.manifold.projx(model.sample(count * each, contexts, seed).double())
    own = model.rough().log_prob(points, contexts).double().cpu().reshape(count, each).sort(1).values
    tail = torch.empty_like(density)
    for k, values in enumerate(own):
        rows = of_row == k
        tail[rows] = torch.searchsorted(values, density[rows]).double() / each
    return tail


def _for_model(context: Tensor | None) -> Tensor | None:
    return None if context is None else context.float()
