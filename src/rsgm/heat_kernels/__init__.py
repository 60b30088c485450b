r"""Heat kernels that are functions of the distance: log-density, radial score, exact sampling.

The kernel :math:`p_s` solves :math:`\partial_s p = \tfrac12\Delta p` from a Dirac mass: it is the law of Brownian
motion at the variance time :math:`s = \int_0^t\beta`. Densities are in nats and with respect to the Riemannian volume.
All functions are pure, take numbers, arrays and tensors of shapes that broadcast together, and have finite derivatives
in forward and in reverse mode: no masked branch divides by zero.
"""

from rsgm.heat_kernels.base import Number, like
from rsgm.heat_kernels.compact import (
    CIRCLE,
    ROTATION,
    SPHERE2,
    SPHERE3,
    HeatKernel,
    truncated_rotation_score,
    truncated_series_score,
)
from rsgm.heat_kernels.hyperbolic import HYPERBOLIC2, HYPERBOLIC3, HyperbolicKernel, log_sinhc

__all__ = [
    "CIRCLE",
    "HYPERBOLIC2",
    "HYPERBOLIC3",
    "ROTATION",
    "SPHERE2",
    "SPHERE3",
    "HeatKernel",
    "HyperbolicKernel",
    "Number",
    "like",
    "log_sinhc",
    "truncated_rotation_score",
    "truncated_series_score",
]
