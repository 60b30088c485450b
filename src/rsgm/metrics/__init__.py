"""Numbers about densities and samples."""

from rsgm.metrics.density import (
    LARGEST_ERROR,
    Integral,
    bits_per_dim,
    guided_integral,
    integral,
    sampled_integral,
    summary,
)
from rsgm.metrics.samples import compare

__all__ = [
    "LARGEST_ERROR",
    "Integral",
    "bits_per_dim",
    "compare",
    "guided_integral",
    "integral",
    "sampled_integral",
    "summary",
]
