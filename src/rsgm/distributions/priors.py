"""The law that a model starts from where none is given."""

from __future__ import annotations

import math

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.combined import ProductDistribution
from rsgm.distributions.elementary import Normal, Uniform
from rsgm.distributions.wrapped import WrappedNormal
from rsgm.manifolds import Manifold


def default_prior(manifold: Manifold) -> ManifoldDistribution:
    """The uniform law where the manifold is compact; of a product that is not, the product of its factors' own.

    Of what is left, the standard normal law of flat space, and the wrapped normal law of scale 1 at the origin of
    another, such as hyperbolic space. The data should be of that scale.

    Example:
        >>> from rsgm.manifolds import Euclidean, Product, SpecialOrthogonal
        >>> default_prior(Product([SpecialOrthogonal(), Euclidean(3)])).factors
        [Uniform(manifold: SpecialOrthogonal(dim=3)), Normal(manifold: Euclidean(dim=3), scale: 1.0)]
    """
    if math.isfinite(manifold.log_volume):
        return Uniform(manifold)
    if manifold.factors:
        return ProductDistribution(manifold, [default_prior(factor) for factor in manifold.factors])
    return Normal(manifold) if manifold.vector_space else WrappedNormal(manifold)
