"""Laws on flat space with exact densities: what toy models learn, and what their samples are held against."""

from rsgm.densities.base import EuclideanLaw, SmoothedLaw
from rsgm.densities.toys import Checkerboard, GaussianMixture, Moons, NoisyCurves, SwissRoll

__all__ = ["Checkerboard", "EuclideanLaw", "GaussianMixture", "Moons", "NoisyCurves", "SmoothedLaw", "SwissRoll"]
