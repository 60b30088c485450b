"""Finished pictures in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rsgm.plots.style import headline, new_figure


def side_by_side(figures: Sequence[Figure], title: str | None = None, across: int | None = None) -> Figure:
    """Pictures of any kind in one, in a row or in several, each in its own size.

    They are copied dot by dot: a vector format would not make them sharper.

    Arguments:
        figures: at least one, all drawn at the same resolution.
        title: a line above them.
        across: how many of them are in a row; None for all.

    Example:
        >>> from rsgm.plots import circle_samples, line_samples
        >>> figure = side_by_side([circle_samples([0.0, 1.0]), line_samples([0.0, 1.0])], "a cylinder")
        >>> figure.get_size_inches().round(1).tolist()
        [13.4, 6.9]
    """
    across = across or len(figures)
    rows = [figures[k : k + across] for k in range(0, len(figures), across)]
    sizes = [np.array([figure.get_size_inches() for figure in row]) for row in rows]
    room = 0.0 if title is None else 0.5
    width, height = max(size[:, 0].sum() for size in sizes), sum(size[:, 1].max() for size in sizes) + room
    montage, top = new_figure(width, height), height - room
    for row, size in zip(rows, sizes, strict=True):
        left, tallest = 0.0, size[:, 1].max()
        for figure, (wide, high) in zip(row, size, strict=True):
            bottom = top - (tallest + high) / 2
            axes = montage.add_axes((left / width, bottom / height, wide / width, high / height))
            axes.set_axis_off()
            figure.canvas.draw()
            axes.imshow(figure.canvas.buffer_rgba(), aspect="auto")  # type: ignore[attr-defined]
            left += wide
        top -= tallest
    headline(montage, title, 1 - 0.25 / height)
    return montage
