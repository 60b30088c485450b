"""Numbers about densities and samples."""

from rsgm.metrics.density import Integral, bits_per_dim, integral, sampled_integral, summary
from rsgm.metrics.samples import compare, sample_report

__all__ = ["Integral", "bits_per_dim", "compare", "integral", "sample_report", "sampled_integral", "summary"]
