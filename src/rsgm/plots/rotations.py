"""Rotations of space: histograms of their three angles beside those of the uniform law."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rsgm.plots.panels import histogram
from rsgm.plots.style import INK, REFERENCE, SAMPLES, Floats, as_points, frame, headline, new_figure, refuse_rows

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
    x = as_points("rotations", rotations, 3, 3)
    bad = (np.abs(x @ x.swapaxes(1, 2) - np.eye(3)).max((1, 2)) > 1e-3) | (np.linalg.det(x) < 0)
    refuse_rows("rotations", x, bad, "no rotations")
    first, last = np.arctan2(x[:, 1, 0], x[:, 0, 0]), np.arctan2(x[:, 2, 1], x[:, 2, 2])
    # adding 0.0 turns -0.0, for which arctan2 gives -pi, into 0.0
    middle = np.arctan2(-x[:, 2, 0], np.hypot(x[:, 0, 0], x[:, 1, 0])) + 0.0
    return np.stack([first, middle, last], -1)


def rotation_histograms(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
) -> Figure:
    """The Tait-Bryan angles of samples (filled) and of the points that they should resemble (in outline).

    The curves are the uniform law's: flat for the first and last angle, half the cosine for the middle one.

    Arguments:
        samples: (n, 3, 3), rotation matrices.
        reference: (m, 3, 3).
        title: a line above the panels.
        reference_name: what the legend calls the reference.

    Raises:
        ValueError: from `tait_bryan`.

    Example:
        >>> figure = rotation_histograms([[[1, 0, 0], [0, 1, 0], [0, 0, 1]]])
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['samples (1)', 'uniform']
    """
    parts = [("samples", np.degrees(tait_bryan(samples)), SAMPLES, True)]
    if reference is not None:
        parts.append((reference_name, np.degrees(tait_bryan(reference)), REFERENCE, False))
    figure = new_figure(11.0, 3.9)
    figure.subplots_adjust(left=0.065, right=0.985, bottom=0.25, top=0.90 if title is None else 0.87, wspace=0.24)
    headline(figure, title, 0.955)
    for k, axes in enumerate(figure.subplots(1, 3)):
        half = 90 if k == 1 else 180
        frame(axes)
        for name, angles, color, filled in parts:
            histogram(axes, angles[:, k], name, color, np.linspace(-half, half, _CELLS + 1), filled)
        angle = np.linspace(-half, half, 181)
        uniform = np.cos(np.radians(angle)) / 2 * np.pi / 180 if k == 1 else np.full(181, 1 / 360)
        axes.plot(angle, uniform, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label="uniform", zorder=5)
        axes.set(xlim=(-half, half), xticks=np.linspace(-half, half, 5), xlabel=f"angle {_AXES[k]} (°)")
        axes.set_ylim(0, None)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        axes.yaxis.get_offset_text().set(fontsize=8, color=INK)
    figure.axes[0].set_ylabel("density (1/°)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=9, labelcolor=INK, frameon=False)
    return figure
