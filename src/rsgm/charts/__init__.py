"""Charts: bijections from flat space to a manifold, with their change of volume."""

from rsgm.charts.base import Chart
from rsgm.charts.curved import ExponentialWrap, Stereographic, TanhExponential
from rsgm.charts.flat import Affine, Logit, Standardise

__all__ = ["Affine", "Chart", "ExponentialWrap", "Logit", "Standardise", "Stereographic", "TanhExponential"]
