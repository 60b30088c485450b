"""Geometry: every manifold is one file and one class, constructible without arguments."""

from rsgm.manifolds.adapted import Adapted
from rsgm.manifolds.base import Manifold, mixture_score, require_manifold
from rsgm.manifolds.euclidean import Euclidean
from rsgm.manifolds.grid import Grid
from rsgm.manifolds.hyperbolic import Hyperbolic
from rsgm.manifolds.lat_lon import from_lat_lon, to_lat_lon
from rsgm.manifolds.product import Product
from rsgm.manifolds.so3 import SpecialOrthogonal
from rsgm.manifolds.sphere import Sphere
from rsgm.manifolds.tensors import expand
from rsgm.manifolds.torus import Torus

__all__ = [
    "Adapted",
    "Euclidean",
    "Grid",
    "Hyperbolic",
    "Manifold",
    "Product",
    "SpecialOrthogonal",
    "Sphere",
    "Torus",
    "expand",
    "from_lat_lon",
    "mixture_score",
    "require_manifold",
    "to_lat_lon",
]
