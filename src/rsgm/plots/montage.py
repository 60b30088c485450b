"""Finished pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rsgm.plots.style import headline, new_figure


def side_by_side(figures: Sequence[Figure], title: str | None = None) -> Figure:
    """Pictures of any kind in one, in a row, each in its own size.

    They are copied dot by dot: a vector format would not make them sharper.

    Arguments:
        figures: at least one, all drawn at the same resolution.
        title: a line above them.

    Example:
        >>> from rsgm.plots import circle_samples, line_samples
        >>> figure = side_by_side([circle_samples([0.0, 1.0]), line_samples([0.0, 1.0])], "a cylinder")
        >>> figure.get_size_inches().round(1).tolist()
        [13.4, 6.9]
    """
    sizes = np.array([figure.get_size_inches() for figure in figures])
    room = 0.0 if title is None else 0.5
    width, height = sizes[:, 0].sum(), sizes[:, 1].max() + room
    montage = new_figure(width, height)
    left = 0.0
    for figure, (across, up) in zip(figures, sizes, strict=True):
        bottom = (height - room - up) / 2
        axes = montage.add_axes((left / width, bottom / height, across / width, up / height))
        axes.set_axis_off()
        figure.canvas.draw()
        axes.imshow(figure.canvas.buffer_rgba(), aspect="auto")  # type: ignore[attr-defined]
        left += across
    headline(montage, title, 1 - 0.25 / height)
    return montage
