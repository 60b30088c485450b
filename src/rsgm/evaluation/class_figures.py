"""The figures of a conditional model: samples and density of each class, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rsgm import plots
from rsgm.data import ManifoldData
from rsgm.evaluation.classes import classes
from rsgm.evaluation.figures import contexts_in_turn
from rsgm.likelihood import Draws, SolveError
from rsgm.models import GenerativeModel

#: most classes that are drawn, those of most training points; how many densities are in a row, and inches of each
_PANELS, _ACROSS, _HEIGHT = 6, 2, 2.5


def draw_classes(model: GenerativeModel, data: ManifoldData, drawn: Draws) -> dict[str, Figure]:
    """Samples and density given each of the commonest contexts, by name; empty without classes, and of pictures.

    Arguments:
        model: what is drawn
        data: what it was trained on
        drawn: samples under the contexts of the test points, in turn, and their log-densities
    """
    if data.test.context is None or data.image_shape is not None:
        return {}
    try:
        found = classes(data)
    except ValueError:  # of which the baselines have said why
        return {}
    of = [found.of(part) for part in (data.train.context, data.test.context)]
    of_drawn = found.of(contexts_in_turn(data.test, len(drawn.points)))
    samples: list[Callable[..., plots.Canvas | None]] = []
    densities: list[Callable[..., Axes | None]] = []
    for k, name in enumerate(found.names[:_PANELS]):
        train, test = data.train.points[of[0] == k], data.test.points[of[1] == k]
        own = Draws(drawn.points[of_drawn == k], drawn.log_density[of_drawn == k])
        if len(test):
            caption = plots.Caption(name, data.header, data.earth)
            samples.append(partial(plots.draw_samples, data.manifold, own.points, test, caption))
            densities.append(partial(_density, model, found.contexts[k], train, test, own, caption))
    about = f"{type(model).__name__} on {data.title}"
    figures = {
        "samples_by_class": plots.one_above_another(samples, f"Samples by class: {about}"),
        "density_by_class": _grid(densities, f"Density by class: {about}"),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _grid(draws: Sequence[Callable[..., Axes | None]], title: str) -> Figure | None:
    """Panels in rows; None where none has a picture."""
    rows = -(-len(draws) // _ACROSS)
    figure = plots.new_figure(plots.PAGE, _HEIGHT * max(rows, 1))
    plots.headline(figure, title)
    parts = np.ravel(figure.subfigures(rows, _ACROSS)) if draws else []
    drawn = [draw(ax=part) for draw, part in zip(draws, parts, strict=False)]
    return figure if any(axes is not None for axes in drawn) else None


def _density(
    model: GenerativeModel,
    context: Tensor,
    train: Tensor,
    test: Tensor,
    own: Draws,
    caption: plots.Caption,
    ax: plots.Canvas,
) -> Axes | None:
    log_density = partial(model.rough().log_prob, context=context.float())
    try:
        return plots.draw_density(model.manifold, log_density, train, test, caption, own, ax)
    except SolveError as error:
        # far from the data, where nothing is scored
        warnings.warn(f"There is no picture of the density given {caption.title}: {error}", stacklevel=2)
        return None
