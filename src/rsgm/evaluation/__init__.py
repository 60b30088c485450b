"""From a model to numbers and figures."""

from rsgm.evaluation.audit import Audit, audit, audit_evaluation
from rsgm.evaluation.evaluate import Assessment, Evaluation, assess, evaluate, score, write
from rsgm.evaluation.figures import draw, sample_like
from rsgm.evaluation.grid import DensityGrid, density_grid
from rsgm.evaluation.grid_files import write_density_grid
from rsgm.evaluation.named_data import load_data, load_reader
from rsgm.evaluation.own_draws import tail_probability
from rsgm.evaluation.region_files import write_regions
from rsgm.evaluation.regions import Region, Regions, density_regions
from rsgm.evaluation.report import report, sample_report
from rsgm.evaluation.rows import draw_rows, score_rows

__all__ = [
    "Assessment",
    "Audit",
    "DensityGrid",
    "Evaluation",
    "Region",
    "Regions",
    "assess",
    "audit",
    "audit_evaluation",
    "density_grid",
    "density_regions",
    "draw",
    "draw_rows",
    "evaluate",
    "load_data",
    "load_reader",
    "report",
    "sample_like",
    "sample_report",
    "score",
    "score_rows",
    "tail_probability",
    "write",
    "write_density_grid",
    "write_regions",
]
