"""Rotations of space: where they take an axis and how they turn about it; histograms of their three angles."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rsgm.plots.earth import map_frame
from rsgm.plots.globe import MOLLWEIDE
from rsgm.plots.panels import histogram
from rsgm.plots.style import (
    COLUMN,
    GREY,
    INK,
    PAGE,
    REFERENCE,
    SAMPLES,
    SMALL,
    Canvas,
    Floats,
    as_points,
    bar_beside,
    canvas,
    few,
    frame,
    heading,
    headline,
    panel,
    refuse_rows,
)

_AXES = ("about z (first)", "about y (middle)", "about x (last)")
_CELLS = 60


def tait_bryan(rotations: ArrayLike) -> Floats:
    r"""The angles :math:`(\alpha, \beta, \gamma)` of :math:`R = R_z(\alpha) R_y(\beta) R_x(\gamma)`, radians (n, 3).

    The middle one lies in :math:`[-\pi/2, \pi/2]`, where it is uniform in its sine if R is uniform; the others, then
    uniform, lie in :math:`(-\pi, \pi]`. Where the middle one is a right angle only their sum or difference is
    determined.

    Arguments:
        rotations: (n, 3, 3)

    Raises:
        ValueError: for matrices that are not (n, 3, 3), not finite, or no rotations to 1e-3

    Example:
        >>> tait_bryan([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]).round(4)
        array([[1.5708, 0.    , 0.    ]])
    """
    x = _rotations(rotations)
    first, last = np.arctan2(x[:, 1, 0], x[:, 0, 0]), np.arctan2(x[:, 2, 1], x[:, 2, 2])
    # adding 0.0 turns -0.0, for which arctan2 gives -pi, into 0.0
    middle = np.arctan2(-x[:, 2, 0], np.hypot(x[:, 0, 0], x[:, 1, 0])) + 0.0
    return np.stack([first, middle, last], -1)


def poles_and_tilts(rotations: ArrayLike) -> tuple[Floats, Floats]:
    """Where rotations take the third axis, and how they turn about it: all that there is of a rotation.

    A rotation is a turn about the third axis, its tilt, and then the shortest way of that axis to the pole (the twist
    and the swing of quaternions). At the pole opposite to the third axis itself there is no shortest way, and the tilt
    jumps.

    References: Murphy et al. 2021, "Implicit-PDF", ICML, for pictures of such kind.

    Arguments:
        rotations: (n, 3, 3)

    Returns:
        longitudes and latitudes of the poles (n, 2), radians, and tilts (n,) in (-pi, pi]

    Raises:
        ValueError: from `tait_bryan`

    Example:
        >>> poles, tilts = poles_and_tilts([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> poles.round(4).tolist(), tilts.round(4).tolist()
        ([[0.0, 1.5708]], [1.5708])
    """
    x = _rotations(rotations)
    pole = x[:, :, 2]
    places = np.stack([np.arctan2(pole[:, 1], pole[:, 0]), np.arcsin(np.clip(pole[:, 2], -1, 1))], -1)
    return places, np.arctan2(x[:, 1, 0] - x[:, 0, 1], x[:, 0, 0] + x[:, 1, 1])


def pole_map(rotations: ArrayLike, name: str = "rotations", color: str = INK, ax: Axes | Canvas | None = None) -> Axes:
    """Rotations as points of a map, where they take the third axis, in the colour of their turn about it.

    Every rotation is seen as a whole, so that joint structure is too, which the laws of three angles hide.

    Arguments:
        rotations: (n, 3, 3), rotation matrices.
        name: of them, above the map.
        color: of the name.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: from `tait_bryan`.
    """
    shown, label = few(name, as_points(name, rotations, 3, 3))
    places, tilts = poles_and_tilts(shown)
    axes = panel(ax, COLUMN, 1.75)
    map_frame(axes, MOLLWEIDE, None, (GREY, "white"))
    size = float(np.clip(4000 / max(len(shown), 1), 2.0, 12.0))
    style = {"cmap": "twilight", "vmin": -180, "vmax": 180, "edgecolors": GREY, "linewidths": 0.1}
    drawn = axes.scatter(*MOLLWEIDE.forward(places).T, s=size, c=np.degrees(tilts), zorder=4, **style)
    bar_beside(axes, drawn, "turn about the axis (°)", ticks=[-180, -90, 0, 90, 180])
    heading(axes, label, color)
    return axes


def rotation_samples(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
    figure: Canvas | None = None,
) -> Canvas:
    """Samples and the points that they should resemble: their poles and tilts, and the laws of their three angles.

    Above a `pole_map` of each; below the Tait-Bryan angles of samples (filled) and reference (in outline), and the
    uniform law's: flat for the first and last angle, half the cosine for the middle one.

    Arguments:
        samples: (n, 3, 3), rotation matrices.
        reference: (m, 3, 3).
        title: a line above the panels.
        reference_name: what the reference is called.
        figure: where to draw; None makes one.

    Raises:
        ValueError: from `tait_bryan`.

    Example:
        >>> figure = rotation_samples([[[1, 0, 0], [0, 1, 0], [0, 0, 1]]])
        >>> [text.get_text() for text in figure.subfigs[1].legends[0].get_texts()]
        ['samples (1)', 'uniform']
    """
    parts = [("samples", samples, SAMPLES), (reference_name, reference, REFERENCE)]
    parts = [part for part in parts if part[1] is not None]
    angles = [(name, np.degrees(tait_bryan(points)), color) for name, points, color in parts]
    figure = canvas(figure, PAGE, 3.7 + 0.2 * (title is not None))
    headline(figure, title)
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 1.95])
    for axes, (name, points, color) in zip(above.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        pole_map(points, name, color, axes)
    for k, axes in enumerate(below.subplots(1, 3)):
        half = 90 if k == 1 else 180
        for name, found, color in angles:
            edges = np.linspace(-half, half, _CELLS + 1)
            histogram(axes, found[:, k], name, color, edges, filled=name == "samples")
        angle = np.linspace(-half, half, 181)
        uniform = np.cos(np.radians(angle)) / 2 * np.pi / 180 if k == 1 else np.full(181, 1 / 360)
        axes.plot(angle, uniform, color=INK, linewidth=0.7, linestyle=(0, (4, 2)), label="uniform", zorder=5)
        axes.set(xlim=(-half, half), xticks=np.linspace(-half, half, 5), xlabel=f"angle {_AXES[k]} (°)")
        axes.set_ylim(0, None)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        axes.yaxis.get_offset_text().set(fontsize=SMALL, color=INK)
        axes.set_ylabel("density (1/°)" if k == 0 else "")
        frame(axes)
    handles, labels = axes.get_legend_handles_labels()
    style = {"ncols": 3, "fontsize": SMALL, "labelcolor": INK, "frameon": False}
    below.legend(handles, labels, loc="outside lower center", **style)
    return figure


def _rotations(rotations: ArrayLike) -> Floats:
    x = as_points("rotations", rotations, 3, 3)
    bad = (np.abs(x @ x.swapaxes(1, 2) - np.eye(3)).max((1, 2)) > 1e-3) | (np.linalg.det(x) < 0)
    refuse_rows("rotations", x, bad, "no rotations")
    return x
