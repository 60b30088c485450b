"""From a model to numbers and figures."""

from rsgm.evaluation.audit import Audit, audit
from rsgm.evaluation.evaluate import Evaluation, evaluate, load_data, score, write
from rsgm.evaluation.figures import draw, sample_like
from rsgm.evaluation.report import report, sample_report

__all__ = [
    "Audit",
    "Evaluation",
    "audit",
    "draw",
    "evaluate",
    "load_data",
    "report",
    "sample_like",
    "sample_report",
    "score",
    "write",
]
