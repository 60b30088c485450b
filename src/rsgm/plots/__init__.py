"""Pictures: functions from a model, or from arrays, to a panel of a figure, and which of them belong to a manifold.

What is one panel takes `ax`, the axes to draw in, and returns them; what has several takes `figure`, a figure or
subfigure. Without, there is a new figure, a column (3.3 inches) or a page (6.8) wide, of which ``axes.figure`` is the
handle. Colours are told apart by the colour-blind too. Nothing touches pyplot, whose global state is neither headless
nor thread safe.
"""

from rsgm.plots.calibration import calibration, coverage_plot, rank_histogram
from rsgm.plots.curves import curve, training_curves
from rsgm.plots.disk import disk_density, disk_points, disk_samples
from rsgm.plots.dynamics import score_field, score_fields, snapshots, trajectories
from rsgm.plots.earth import coastline, density_map, map_points, sample_map
from rsgm.plots.globe import Mollweide, Orthographic, Projection, interpolate
from rsgm.plots.images import image_grid
from rsgm.plots.latents import latent_histograms, plane_laws
from rsgm.plots.plane import line_density, line_samples, plane_density, plane_samples
from rsgm.plots.rotations import pole_map, poles_and_tilts, rotation_samples, tait_bryan
from rsgm.plots.style import COLUMN, PAGE, Canvas, headline, new_figure
from rsgm.plots.torus import angle_pairs, circle_density, circle_samples, interpolate_angles, torus_density
from rsgm.plots.views import Caption, density, density_levels, draw_density, draw_samples, one_above_another

__all__ = [
    "COLUMN",
    "PAGE",
    "Canvas",
    "Caption",
    "Mollweide",
    "Orthographic",
    "Projection",
    "angle_pairs",
    "calibration",
    "circle_density",
    "circle_samples",
    "coastline",
    "coverage_plot",
    "curve",
    "density",
    "density_levels",
    "density_map",
    "disk_density",
    "disk_points",
    "disk_samples",
    "draw_density",
    "draw_samples",
    "headline",
    "image_grid",
    "interpolate",
    "interpolate_angles",
    "latent_histograms",
    "line_density",
    "line_samples",
    "map_points",
    "new_figure",
    "one_above_another",
    "plane_density",
    "plane_laws",
    "plane_samples",
    "pole_map",
    "poles_and_tilts",
    "rank_histogram",
    "rotation_samples",
    "sample_map",
    "score_field",
    "score_fields",
    "snapshots",
    "tait_bryan",
    "torus_density",
    "training_curves",
    "trajectories",
]
