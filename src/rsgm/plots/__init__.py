"""Pictures: pure functions from arrays to a `matplotlib.figure.Figure`, and which of them belong to a manifold.

They never touch pyplot, whose global state is neither headless nor thread safe; the caller saves, logs or shows the
figure.
"""

from rsgm.plots.disk import disk_density, disk_samples
from rsgm.plots.dynamics import score_field, snapshots, trajectories
from rsgm.plots.earth import coastline, density_map, sample_map
from rsgm.plots.globe import interpolate
from rsgm.plots.images import image_grid
from rsgm.plots.latents import latent_histograms, plane_laws
from rsgm.plots.montage import side_by_side
from rsgm.plots.plane import line_density, line_samples, plane_density, plane_samples
from rsgm.plots.rotations import rotation_histograms, tait_bryan
from rsgm.plots.torus import angle_pairs, circle_density, circle_samples, interpolate_angles, torus_density
from rsgm.plots.views import Caption, draw_density, draw_samples

__all__ = [
    "Caption",
    "angle_pairs",
    "circle_density",
    "circle_samples",
    "coastline",
    "density_map",
    "disk_density",
    "disk_samples",
    "draw_density",
    "draw_samples",
    "image_grid",
    "interpolate",
    "interpolate_angles",
    "latent_histograms",
    "line_density",
    "line_samples",
    "plane_density",
    "plane_laws",
    "plane_samples",
    "rotation_histograms",
    "sample_map",
    "score_field",
    "side_by_side",
    "snapshots",
    "tait_bryan",
    "torus_density",
    "trajectories",
]
