"""The page of HTML of one sweep: methods with their intervals, and links to their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rsgm.report import Markup, Number, escaped, page, table
from rsgm.sweeps.plan import Sweep
from rsgm.sweeps.records import Record
from rsgm.sweeps.run import metrics_file
from rsgm.sweeps.statistics import Interval, Row, rows

_ABOUT = (
    "Mean negative log-likelihood of the test points (nats, lower is better) over the seeds, ± the half-width of its "
    "95 % interval after Student; with one seed there is none. Bars of a case share a scale. Each seed leads to the "
    "report of its run, which evaluate.py --ckpt RUN/best.ckpt --report makes, or else to its numbers."
)


def overview_page(sweep: Sweep, records: Mapping[str, Record], folder: Path) -> str:
    """A table for each case of a sweep: intervals as numbers and bars, and the runs of each seed.

    Arguments:
        sweep: which
        records: of its runs
        folder: of all its runs, where the page will be
    """
    body = [f"<h1>{escaped(sweep.title)}</h1>", f'<p class="lead">{escaped(_ABOUT)}</p>']
    body += [f"<p>{escaped(sweep.notes.strip())}</p>"] if sweep.notes else []
    found = rows(sweep, records)
    for case in sweep.cases:
        here = [row for row in found if row.case == case]
        if here:
            body += [f"<h2>{escaped(case or sweep.name)}</h2>", _case(sweep, here, folder)]
    return page(sweep.title, "\n".join(body))


def _case(sweep: Sweep, here: Sequence[Row], folder: Path) -> str:
    values = [row.over_seeds("nll.mean") for row in here]
    ends = [end for value in values if value is not None for end in _ends(value)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    against = f"minus {sweep.methods[sweep.reference]}" if sweep.reference else ""
    body = [
        [
            sweep.methods[row.method],
            Number(_text(value)),
            Markup("" if value is None else _bar(value, low, high)),
            Number(_text(row.difference)),
            Number(_text(row.over_seeds("seconds.training.cpu"), 0)),
            Markup(", ".join(_links(row, folder))),
        ]
        for row, value in zip(here, values, strict=True)
    ]
    return table(["method", Number("NLL"), "", Number(against), Number("CPU-s"), "seeds"], body)


def _links(row: Row, folder: Path) -> list[str]:
    """To the newest of each seed; a run that is elsewhere, or failed, has none."""
    found = []
    for trial in row.trials:
        if trial.seed in row.failures:
            found.append(f"{trial.seed} failed")
        elif trial.seed in row.records:
            numbers = metrics_file(folder / trial.name)
            if numbers is None:
                found.append(str(trial.seed))
                continue
            reports = sorted(numbers.parent.glob("report*.html"), key=lambda path: path.stat().st_mtime)
            target = (reports or [numbers])[-1].relative_to(folder).as_posix()
            found.append(f'<a href="{escaped(target)}">{trial.seed}</a>')
    return found


def _bar(value: Interval, low: float, high: float) -> str:
    """A dot at the mean and a line over the interval, in units of a hundredth of the scale."""
    scale = 94 / (high - low) if high > low else 0.0
    left, middle, right = (3 + (x - low) * scale for x in (_ends(value)[0], value.mean, _ends(value)[1]))
    return (
        f'<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{_text(value)}">'
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="4" y2="4"/>'
        f'<ellipse cx="{middle:.1f}" cy="4" rx="1.2" ry="2.4"/></svg>'
    )


def _ends(value: Interval) -> tuple[float, float]:
    half = value.half or 0.0
    return value.mean - half, value.mean + half


def _text(value: Interval | None, digits: int = 3) -> str:
    if value is None:
        return ""
    mean = f"{value.mean:,.{digits}f}".replace("-", "−")
    return mean if value.half is None or not digits else f"{mean} ± {value.half:.{digits}f}"
