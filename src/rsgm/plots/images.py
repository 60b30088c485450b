"""Images side by side."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rsgm.plots.style import as_points, headline, new_figure

_GAP = 1  # pixels of an image between two of them


def image_grid(
    images: ArrayLike,
    columns: int | None = None,
    vmin: float = 0.0,
    vmax: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Images in rows, grey or in colour.

    Arguments:
        images: (n, h, w) or (n, c, h, w) with c of 1 or 3.
        columns: images in a row; about a square by default.
        vmin, vmax: the values that are black and white; values beyond them are clipped.
        title: a line above the images.

    Raises:
        ValueError: for other shapes, no images, values that are not finite, vmin >= vmax.

    Example:
        >>> image_grid(np.zeros((6, 8, 8)), columns=3).axes[0].images[0].get_array().shape
        (17, 26, 3)
    """
    found = np.asarray(images, dtype=np.float64)
    found = found[:, None] if found.ndim == 3 else found
    found = as_points("images", found, None, None, None)
    n, channels, height, width = found.shape
    if channels not in (1, 3) or not found.size:
        raise ValueError(f"images: found the shape {np.shape(images)}; expected (n, h, w) or (n, 1 or 3, h, w)")
    if not vmin < vmax or (columns is not None and columns < 1):
        raise ValueError(f"image_grid: expected vmin < vmax and columns > 0, found {vmin:g}, {vmax:g} and {columns}")
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    rows = -(-n // columns)
    mosaic = np.ones((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3))
    shades = np.clip((found - vmin) / (vmax - vmin), 0, 1).transpose(0, 2, 3, 1)
    for k, image in enumerate(shades):
        top, left = k // columns * (height + _GAP), k % columns * (width + _GAP)
        mosaic[top : top + height, left : left + width] = image
    shape = mosaic.shape[0] / mosaic.shape[1]
    across = 6.4 / max(1.0, shape)
    room = 0.0 if title is None else 0.5
    figure = new_figure(across + 0.2, across * shape + 0.2 + room)
    total = figure.get_size_inches()[1]
    axes = figure.add_axes((0.1 / (across + 0.2), 0.1 / total, across / (across + 0.2), across * shape / total))
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_axis_off()
    headline(figure, title, 1 - 0.3 / total)
    return figure
