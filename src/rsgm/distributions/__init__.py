"""Probability laws on manifolds, as `torch.distributions`."""

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.combined import Mixture, ProductDistribution
from rsgm.distributions.elementary import Normal, Uniform, VonMisesFisher
from rsgm.distributions.experiments import (
    HyperbolicCross,
    NamedLaw,
    PolarVonMisesFisher,
    RandomRotationMixture,
    RandomVonMisesFisherMixture,
    RandomWrappedNormalMixture,
    TorusWrappedNormal,
)
from rsgm.distributions.flat import EuclideanLaw, SmoothedLaw
from rsgm.distributions.kent import Kent
from rsgm.distributions.kent_fit import fit_kent
from rsgm.distributions.priors import default_prior
from rsgm.distributions.toys import Checkerboard, GaussianMixture, Moons, NoisyCurves, SwissRoll
from rsgm.distributions.wrapped import BrownianLaw, WrappedNormal

__all__ = [
    "BrownianLaw",
    "Checkerboard",
    "EuclideanLaw",
    "GaussianMixture",
    "HyperbolicCross",
    "Kent",
    "ManifoldDistribution",
    "Mixture",
    "Moons",
    "NamedLaw",
    "NoisyCurves",
    "Normal",
    "PolarVonMisesFisher",
    "ProductDistribution",
    "RandomRotationMixture",
    "RandomVonMisesFisherMixture",
    "RandomWrappedNormalMixture",
    "SmoothedLaw",
    "SwissRoll",
    "TorusWrappedNormal",
    "Uniform",
    "VonMisesFisher",
    "WrappedNormal",
    "default_prior",
    "fit_kent",
]
