"""Many runs of `train.py`: what is run, where, and the tables that are made of it."""

from rsgm.sweeps.engines import on_ray, one_by_one
from rsgm.sweeps.overview import overview_page
from rsgm.sweeps.page import overview, read_published, results_page, section, summary_csv
from rsgm.sweeps.plan import Sweep, SweepError
from rsgm.sweeps.records import Record, at, collect, collect_one, failed, read, write
from rsgm.sweeps.run import Job, Outcome, is_running
from rsgm.sweeps.statistics import due, rows
from rsgm.sweeps.table import COLUMNS, csv_table, find_runs, require_places, sort_runs, text_table
from rsgm.sweeps.trial import Trial

__all__ = [
    "COLUMNS",
    "Job",
    "Outcome",
    "Record",
    "Sweep",
    "SweepError",
    "Trial",
    "at",
    "collect",
    "collect_one",
    "csv_table",
    "due",
    "failed",
    "find_runs",
    "is_running",
    "on_ray",
    "one_by_one",
    "overview",
    "overview_page",
    "read",
    "read_published",
    "require_places",
    "results_page",
    "rows",
    "section",
    "sort_runs",
    "summary_csv",
    "text_table",
    "write",
]
