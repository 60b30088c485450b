"""The figures of a conditional model: samples and density of each class, side by side."""

from __future__ import annotations

import warnings
from functools import partial

from matplotlib.figure import Figure
from torch import Tensor

from rsgm import plots
from rsgm.data import ManifoldData
from rsgm.evaluation.classes import classes
from rsgm.evaluation.figures import contexts_in_turn, sample_figure
from rsgm.likelihood import Draws, SolveError
from rsgm.models import GenerativeModel

#: most classes that are drawn, those of most training points, and how many are in a row
_PANELS, _ACROSS = 6, 3


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
    panels: dict[str, list[Figure | None]] = {"samples_by_class": [], "density_by_class": []}
    for k, name in enumerate(found.names[:_PANELS]):
        train, test = data.train.points[of[0] == k], data.test.points[of[1] == k]
        own = Draws(drawn.points[of_drawn == k], drawn.log_density[of_drawn == k])
        if len(test):
            panels["samples_by_class"].append(sample_figure(data, own.points, test, name))
            panels["density_by_class"].append(_density(model, data, found.contexts[k], train, test, own, name))
    about = f"{type(model).__name__} on {data.title}"
    return {
        name: plots.side_by_side(some, f"{name.partition('_')[0].capitalize()} by class: {about}", _ACROSS)
        for name, figures in panels.items()
        if (some := [figure for figure in figures if figure is not None])
    }


def _density(
    model: GenerativeModel, data: ManifoldData, context: Tensor, train: Tensor, test: Tensor, own: Draws, name: str
) -> Figure | None:
    log_density = partial(model.rough().log_prob, context=context.float())
    caption = plots.Caption(name, data.header, data.earth)
    try:
        return plots.draw_density(model.manifold, log_density, train, test, caption, own)
    except SolveError as error:
        # far from the data, where nothing is scored
        warnings.warn(f"There is no picture of the density given {name}: {error}", stacklevel=2)
        return None
