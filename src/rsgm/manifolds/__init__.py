"""Geometry: every manifold is one file and one class, constructible without arguments."""

from rsgm.manifolds.adapted import Adapted
from rsgm.manifolds.base import Manifold
from rsgm.manifolds.euclidean import Euclidean
from rsgm.manifolds.hyperbolic import Hyperbolic
from rsgm.manifolds.product import Product
from rsgm.manifolds.sphere import Sphere

__all__ = ["Adapted", "Euclidean", "Hyperbolic", "Manifold", "Product", "Sphere"]
