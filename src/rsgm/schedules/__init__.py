"""How much noise at what time: rates, chains and their levels, grids of times, and the learning rate."""

from rsgm.schedules.discrete import (
    DiscreteConstant,
    DiscreteCosine,
    DiscreteHarmonic,
    DiscreteLinear,
    DiscreteQuadratic,
    DiscreteSchedule,
    DiscreteWarmup,
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
    GridLadder,
    Ladder,
    langevin_step,
    largest_level,
    level_count,
    level_ratio,
    smallest_level,
)
from rsgm.schedules.learning import ConstantRate, LearningRate, WarmupCosine
from rsgm.schedules.rates import ConstantBeta, GeometricVariance, LinearBeta, QuadraticBeta, Schedule

__all__ = [
    "AutomaticLadder",
    "AutomaticVariance",
    "ConstantBeta",
    "ConstantRate",
    "DeviationGrid",
    "DiscreteConstant",
    "DiscreteCosine",
    "DiscreteHarmonic",
    "DiscreteLinear",
    "DiscreteQuadratic",
    "DiscreteSchedule",
    "DiscreteWarmup",
    "GeometricVariance",
    "GeometricVarianceGrid",
    "GridLadder",
    "IndexGrid",
    "Ladder",
    "LearningRate",
    "LinearBeta",
    "PowerTimeGrid",
    "QuadraticBeta",
    "Schedule",
    "TimeGrid",
    "UniformTimeGrid",
    "UniformVarianceGrid",
    "WarmupCosine",
    "langevin_step",
    "largest_level",
    "level_count",
    "level_ratio",
    "smallest_level",
]
