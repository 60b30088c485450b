"""From a model to numbers and figures."""

from rsgm.evaluation.audit import Audit, audit
from rsgm.evaluation.evaluate import Evaluation, evaluate, score, write
from rsgm.evaluation.figures import draw, sample_like
from rsgm.evaluation.named_data import load_data, load_reader
from rsgm.evaluation.report import report, sample_report
from rsgm.evaluation.rows import draw_rows, score_rows

__all__ = [
    "Audit",
    "Evaluation",
    "audit",
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
    "write",
]
