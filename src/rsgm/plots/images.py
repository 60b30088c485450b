"""Images side by side."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rsgm.plots.style import COLUMN, Canvas, as_points, heading, panel

_GAP = 1  # pixels of an image between two of them


def image_grid(
    images: ArrayLike,
    columns: int | None = None,
    vmin: float = 0.0,
    vmax: float = 1.0,
    title: str | None = None,
    ax: Axes | Canvas | None = None,
) -> Axes:
    """Images in rows, grey or in colour.

    Arguments:
        images: (n, h, w) or (n, c, h, w) with c of 1 or 3.
        columns: images in a row; about a square by default.
        vmin, vmax: the values that are black and white; values beyond them are clipped.
        title: a line above the images.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for other shapes, no images, values that are not finite, vmin >= vmax.

    Example:
        >>> image_grid(np.zeros((6, 8, 8)), columns=3).images[0].get_array().shape
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
    axes = panel(ax, COLUMN, COLUMN * min(shape, 2.0) + 0.25)
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_axis_off()
    heading(axes, title)
    return axes
