"""Numbers about densities and samples."""

from rsgm.metrics.density import (
    LARGEST_ERROR,
    Integral,
    bits_per_dim,
    density_level,
    density_ranks,
    guided_integral,
    integral,
    sampled_integral,
    summary,
)
from rsgm.metrics.geodesic import compare_points, distances
from rsgm.metrics.samples import compare

__all__ = [
    "LARGEST_ERROR",
    "Integral",
    "bits_per_dim",
    "compare",
    "compare_points",
    "density_level",
    "density_ranks",
    "distances",
    "guided_integral",
    "integral",
    "sampled_integral",
    "summary",
]
