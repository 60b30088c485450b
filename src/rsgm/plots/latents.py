"""Laws of one number side by side, such as those of a latent variable before and after its training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde

from rsgm.plots.panels import histogram
from rsgm.plots.style import INK, REFERENCE, SAMPLES, as_points, frame, legend, new_figure, window

_COLORS = (SAMPLES, REFERENCE, "#2b8a3e", "#862e9c")
_CELLS = 60


def latent_histograms(parts: Mapping[str, ArrayLike], name: str = "$z$", title: str | None = None) -> Figure:
    """Histograms with Gaussian kernel densities (Scott's rule), in one picture.

    Arguments:
        parts: up to four names and their values (n,).
        name: of the axis.
        title: a line above the picture.

    Raises:
        ValueError: for none or more than four, and for values that are not (n,) or not finite.

    Example:
        >>> figure = latent_histograms({"prior": [0.1, 0.5, 0.2], "posterior": [1.0, 1.5, 1.2]})
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['prior (3)', 'posterior (3)']
    """
    if not 1 <= len(parts) <= len(_COLORS):
        raise ValueError(f"latent_histograms: expected 1 to {len(_COLORS)} laws, found {len(parts)}: {list(parts)}")
    values = {label: as_points(label, found) for label, found in parts.items()}
    limits = window(np.concatenate(list(values.values()))[:, None])[0]
    figure = new_figure(7.0, 4.2, "constrained")
    axes = figure.add_subplot()
    frame(axes)
    x = np.linspace(*limits, 400)
    for (label, found), color in zip(values.items(), _COLORS, strict=False):
        histogram(axes, found, label, color, np.linspace(*limits, _CELLS + 1), filled=True, alpha=0.3)
        if len(found) > 1 and np.ptp(found) > 0:  # an atom has no kernel density
            axes.plot(x, gaussian_kde(found)(x), color=color, linewidth=1.5, zorder=5)
    axes.set(xlim=limits, xlabel=name, ylabel="density")
    if title is not None:
        axes.set_title(title, fontsize=13, color=INK)
    legend(axes, loc="upper right", handletextpad=0.6)
    return figure
