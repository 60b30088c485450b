"""Whether a density means what it says: the ranks of test points among a model's own draws, and what regions hold."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy import stats

from rsgm.metrics import density_ranks
from rsgm.plots.panels import histogram
from rsgm.plots.style import (
    COLUMN,
    GREY,
    INK,
    PAGE,
    REFERENCE,
    Canvas,
    Floats,
    as_points,
    canvas,
    frame,
    heading,
    headline,
    legend,
    panel,
)

_CELLS = 20
#: of the bands, pointwise
_CONFIDENCE = 0.95


def rank_histogram(
    ranks: ArrayLike, observations: int | None = None, title: str | None = None, ax: Axes | Canvas | None = None
) -> Axes:
    """A histogram of `rsgm.metrics.density_ranks`, flat where the density is calibrated, and what chance leaves.

    Too many low ranks: points where the model's density is too low, outliers to it. Too many high ones: the model is
    wider than the data.

    Arguments:
        ranks: (n,), from 0 to 1.
        observations: how many independent ones they are worth, for the band; None for n. Of points in n places, and m
            draws, n m / (n + m).
        title: a line above the panel.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for ranks that are not (n,) or no shares.
    """
    found, count = _ranks(ranks), observations or len(np.atleast_1d(ranks))
    axes = panel(ax, COLUMN, 2.1)
    low, high = _band(np.array([1 / _CELLS]), count)
    axes.axhspan(low[0] * _CELLS, high[0] * _CELLS, color=GREY, alpha=0.25, linewidth=0, label=_band_name(count))
    histogram(axes, found, "test", REFERENCE, np.linspace(0, 1, _CELLS + 1), filled=True, alpha=0.7)
    axes.axhline(1, color=INK, linewidth=0.7, linestyle=(0, (4, 2)), zorder=5)
    axes.set(xlim=(0, 1), xlabel="share of draws that are less likely", ylabel="density of test points")
    axes.set_ylim(0, max(1.35 * axes.get_ylim()[1], 2.0))
    frame(axes)
    legend(axes, loc="upper center", ncols=2)
    heading(axes, title)
    return axes


def coverage_plot(
    ranks: ArrayLike, observations: int | None = None, title: str | None = None, ax: Axes | Canvas | None = None
) -> Axes:
    """What share of points the regions of highest density hold, over the share that they should.

    Arguments: see `rank_histogram`.
    """
    found, count = _ranks(ranks), observations or len(np.atleast_1d(ranks))
    axes = panel(ax, COLUMN, 2.1)
    share = np.linspace(0, 1, 201)
    axes.fill_between(share, *_band(share, count), color=GREY, alpha=0.25, linewidth=0, label=_band_name(count))
    axes.plot(share, share, color=INK, linewidth=0.7, linestyle=(0, (4, 2)))
    held = 1 - np.searchsorted(np.sort(found), 1 - share) / max(len(found), 1)
    axes.plot(share, held, color=REFERENCE, linewidth=1.1, label=f"test ({len(found):,})", zorder=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of the law in the region", ylabel="share of test points in it")
    frame(axes)
    legend(axes, loc="upper left")
    heading(axes, title)
    return axes


def calibration(
    log_density: ArrayLike,
    draws: ArrayLike,
    places: int | None = None,
    title: str | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Whether points follow the law of a density: a `rank_histogram` and a `coverage_plot`.

    Arguments:
        log_density: of the points under the model, (n,), nats.
        draws: of draws of the model, (m,).
        places: of the points, where some are one place; None for n.
        title: a line above the panels.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for log-densities that are not (n,) and (m,), and for none.

    Example:
        >>> figure = calibration([-1.0, 2.0], draws=[-2.0, 0.0, 1.0, 1.5])
        >>> [axes.get_title() for axes in figure.axes]
        ['Ranks', 'Regions of highest density']
    """
    values, own = as_points("log_density", log_density), as_points("draws", draws)
    if not len(values) or not len(own):
        raise ValueError(f"calibration: expected points and draws, found {len(values)} and {len(own)}")
    n, m = places or len(values), len(own)
    count, ranks = max(1, round(n * m / (n + m))), density_ranks(torch.as_tensor(values), torch.as_tensor(own))
    figure = canvas(figure, PAGE, 2.3 + 0.2 * (title is not None))
    headline(figure, title)
    left, right = figure.subplots(1, 2)
    rank_histogram(ranks, count, "Ranks", left)
    coverage_plot(ranks, count, "Regions of highest density", right)
    return figure


def _ranks(ranks: ArrayLike) -> Floats:
    found = as_points("ranks", ranks)
    if found.size and not 0 <= found.min() <= found.max() <= 1:
        raise ValueError(f"ranks: expected shares from 0 to 1, found {found.min():.4g} to {found.max():.4g}")
    return found


def _band(share: Floats, count: int) -> tuple[Floats, Floats]:
    """Between what shares of so many observations lie, for a probability each."""
    low, high = stats.binom.interval(_CONFIDENCE, count, share)
    return low / count, high / count


def _band_name(count: int) -> str:
    return f"95 % of chance, {count:,} observations"
