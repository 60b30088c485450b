"""Probability laws on manifolds, as `torch.distributions`."""

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.combined import Mixture, ProductDistribution
from rsgm.distributions.elementary import Normal, Uniform, VonMisesFisher
from rsgm.distributions.kent import Kent
from rsgm.distributions.kent_fit import fit_kent
from rsgm.distributions.wrapped import BrownianLaw, WrappedNormal

__all__ = [
    "BrownianLaw",
    "Kent",
    "ManifoldDistribution",
    "Mixture",
    "Normal",
    "ProductDistribution",
    "Uniform",
    "VonMisesFisher",
    "WrappedNormal",
    "fit_kent",
]
