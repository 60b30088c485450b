"""A report that one can send: one page of HTML that needs no network."""

from rsgm.report.evaluated import evaluation_page
from rsgm.report.page import Markup, Number, escaped, page, table, write_report

__all__ = ["Markup", "Number", "escaped", "evaluation_page", "page", "table", "write_report"]
