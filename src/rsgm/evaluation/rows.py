"""Answers in rows of a table: how surprising each row is, and rows that a model draws."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.data import ManifoldData, Rows
from rsgm.data.text import as_text
from rsgm.evaluation.figures import contexts_in_turn, contexts_like
from rsgm.evaluation.own_draws import tail_probability
from rsgm.metrics import density_ranks
from rsgm.models import GenerativeModel

#: draws against which rows are held, and the fewest of one context
_DRAWS, _FEWEST = 2000, 200
#: draws of all contexts together: where each can have more than the fewest, and at most
_USUAL, _MOST = 10_000, 40_000


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
      that the model would hardly draw. By 2000 draws, or by 200 at least of each of many contexts; left out, with a
      warning, beyond 200 contexts.

    The latter two compare densities by the volume of the manifold, where logarithms are numbers if they are taken.

    Arguments:
        model: the law
        data: that know the columns
        rows: of a file; see `ManifoldData.read_rows`
        seed: of the draws
    """
    density = model.log_prob(rows.points, _for_model(rows.context)).double().cpu()
    known = model.log_prob(data.train.points, _for_model(data.train.context)).double().cpu()
    found = {
        "log_prob": density + data.log_unit(rows.points),
        "percentile": 100.0 * density_ranks(density, known),
        "tail_probability": _tail(model, density, rows.context, seed),
    }
    added = {
        name: [f"{value:.7g}" for value in column.tolist()] for name, column in found.items() if column is not None
    }
    names = [_free(name, rows.header) for name in added]
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
    given_rows = data.train._replace(context=context)
    points = model.sample(n, contexts_like(model, given_rows, n), seed).double().cpu()
    columns, known = data.to_units(points).T.tolist(), data.to_units(data.train.points)
    rows = list(zip(*map(as_text, columns, known.std(0).tolist()), strict=True))
    if context is None or not data.context_names:
        return Columns(data.header, rows)
    # with the digits that the model did not see
    known = data.decode_context(contexts_in_turn(given_rows, n).double())
    return Columns([*data.header, *data.context_names], [[*row, *more] for row, more in zip(rows, known, strict=True)])


def _tail(model: GenerativeModel, density: Tensor, context: Tensor | None, seed: int) -> Tensor | None:
    """Those of `tail_probability`, by fewer draws where there are more contexts."""
    if context is None:
        return tail_probability(model, density, _DRAWS, seed=seed)
    count = len(torch.unique(context, dim=0))
    if count * _FEWEST > _MOST:
        warnings.warn(
            f"The rows have {count} contexts, and tail probabilities need draws of each: they are left out. "
            f"Expected at most {_MOST // _FEWEST} contexts.",
            stacklevel=3,
        )
        return None
    draws = max(_FEWEST, min(_DRAWS, _USUAL // count))
    return tail_probability(model, density, draws, _for_model(context), seed)


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, with a number where a file that was scored before has it already."""
    every = itertools.chain([name], (f"{name}_{k}" for k in itertools.count(2)))
    return next(one for one in every if one not in taken)


def _for_model(context: Tensor | None) -> Tensor | None:
    return None if context is None else context.float()
