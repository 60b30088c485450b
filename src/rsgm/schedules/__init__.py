"""How much noise at what time: rates, chains and their levels, grids of times."""

from rsgm.schedules.discrete import (
    DiscreteCosine,
    DiscreteLinear,
    DiscreteSchedule,
)
from rsgm.schedules.grids import (
    DeviationGrid,
    GeometricVarianceGrid,
    IndexGrid,
    PowerTimeGrid,
    TimeGrid,
    UniformTimeGrid,
    UniformVarianceGrid,
)
from rsgm.schedules.ladders import (
    AutomaticLadder,
    AutomaticVariance,
    ChainLadder,
    GridLadder,
    Ladder,
    langevin_step,
    largest_level,
    level_count,
    level_ratio,
    smallest_level,
)
from rsgm.schedules.rates import ConstantBeta, GeometricVariance, LinearBeta, QuadraticBeta, Schedule

__all__ = [
    "AutomaticLadder",
    "AutomaticVariance",
    "ChainLadder",
    "ConstantBeta",
    "DeviationGrid",
    "DiscreteCosine",
    "DiscreteLinear",
    "DiscreteSchedule",
    "GeometricVariance",
    "GeometricVarianceGrid",
    "GridLadder",
    "IndexGrid",
    "Ladder",
    "LinearBeta",
    "PowerTimeGrid",
    "QuadraticBeta",
    "Schedule",
    "TimeGrid",
    "UniformTimeGrid",
    "UniformVarianceGrid",
    "langevin_step",
    "largest_level",
    "level_count",
    "level_ratio",
    "smallest_level",
]
