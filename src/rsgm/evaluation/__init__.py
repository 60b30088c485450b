"""From a model to numbers and figures."""

from rsgm.evaluation.evaluate import evaluate, load_data
from rsgm.evaluation.report import report, sample_report

__all__ = ["evaluate", "load_data", "report", "sample_report"]
