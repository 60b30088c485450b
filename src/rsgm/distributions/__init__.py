"""Probability laws on manifolds, as `torch.distributions`."""

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.combined import Mixture, ProductDistribution
from rsgm.distributions.elementary import Normal, Uniform, VonMisesFisher
from rsgm.distributions.flat import EuclideanLaw, SmoothedLaw
from rsgm.distributions.kent import Kent
from rsgm.distributions.kent_fit import fit_kent
from rsgm.distributions.toys import Checkerboard, GaussianMixture, Moons, NoisyCurves, SwissRoll
from rsgm.distributions.wrapped import BrownianLaw, WrappedNormal

__all__ = [
    "BrownianLaw",
    "Checkerboard",
    "EuclideanLaw",
    "GaussianMixture",
    "Kent",
    "ManifoldDistribution",
    "Mixture",
    "Moons",
    "NoisyCurves",
    "Normal",
    "ProductDistribution",
    "SmoothedLaw",
    "SwissRoll",
    "Uniform",
    "VonMisesFisher",
    "WrappedNormal",
    "fit_kent",
]
