"""Probability laws on manifolds, as `torch.distributions`."""

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.elementary import Normal, Uniform, VonMisesFisher
from rsgm.distributions.kent import Kent
from rsgm.distributions.kent_fit import fit_kent

__all__ = ["Kent", "ManifoldDistribution", "Normal", "Uniform", "VonMisesFisher", "fit_kent"]
