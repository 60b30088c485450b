"""Tables of a sweep in Markdown and CSV, and the page of all tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rsgm.metrics import LARGEST_ERROR
from rsgm.sweeps.plan import Sweep, SweepError, load_yaml
from rsgm.sweeps.records import NO_QUANTITIES, NUMBERS, Record
from rsgm.sweeps.statistics import Interval, Row, candidates, rows
from rsgm.sweeps.trial import as_text

_PAGE = """# Results

`rsgm results` writes this page from the files of `results/`, one line for each run, and of `configs/sweep/`, which say
what was run: nobody types into it. `rsgm sweep configs/sweep/NAME.yaml` runs a table again.

Every value is the mean over the seeds that the column "seeds" counts, ± the half-width of its 95 % interval after
Student; with one seed there is none. A seed draws the split of the data, or the law, as well as the network.

- NLL: mean negative log-likelihood of the test points, nats. Without twins: of those that equal no training point.
- Minus a method: the difference to it on the same test points, seed by seed; negative is better.
- Perfect model: the law that the data were drawn from, on the same points; the gap is the difference to it.
- Smallest scale: the finest that the model can resolve; where places repeat, an NLL says nothing without it.
- Integral of the density: the mean over the runs where it could be measured, ± the standard error of its computation.
- CPU-s: seconds of a processor, of training and of evaluation.
- Hyper-parameters were chosen on validation points, where a row says "best of"; so was the checkpoint of each run.
- † was run with settings that its configuration no longer has. Published rows are as printed, with their own ±.
"""


class Published(NamedTuple):
    """A value that somebody has printed.

    Fields:
        method: as its source calls it
        value: negative log-likelihood, nats
        error: what stands behind its ±; None where there is none
        source: where it is printed, and what there is to say of it
    """

    method: str
    value: float
    error: float | None
    source: str


def read_published(path: Path, sweep: Sweep) -> dict[str, list[Published]]:
    """The published values of a file that belong to a sweep, by case; none where there is no file.

    The file has, by the name of a sweep, a list of ``method``, ``source``, ``values`` and, if there is something to say
    of all of them, ``remark``. ``values`` are, by case, a number or ``[number, error, remark]``, the error null where
    it is not known.

    Raises:
        SweepError: for a case that the sweep does not have, and for other values
    """
    found: dict[str, list[Published]] = {}
    for entry in (load_yaml(path) if path.exists() else {}).get(sweep.name, []):
        for case, said in entry["values"].items():
            value, error, remark = (*(said if isinstance(said, list) else [said]), None, None)[:3]
            if case not in sweep.cases or not all(isinstance(x, int | float | None) for x in (value, error)):
                raise SweepError(
                    f"{path}: {entry['method']} has {case!r}: {said!r}; expected a case of {sweep.name} and a number, "
                    "or [number, error, remark]."
                )
            source = "; ".join(str(part) for part in (entry["source"], entry.get("remark"), remark) if part)
            found.setdefault(case, []).append(Published(entry["method"], value, error, source))
    return found


def results_page(parts: Sequence[tuple[Sweep, Mapping[str, Record], Mapping[str, list[Published]]]]) -> str:
    """The page of all tables: each a sweep, its records and what is published beside."""
    return "\n".join([_PAGE, *(section(*part) for part in parts)])


def section(sweep: Sweep, records: Mapping[str, Record], published: Mapping[str, list[Published]]) -> str:
    """The tables of a sweep in Markdown: all of its cases together, then each, then what was chosen."""
    found = rows(sweep, records)
    lines = [f"## {sweep.title}", "", *([sweep.notes.strip(), ""] if sweep.notes else [])]
    lines += [f"Made by `rsgm sweep {sweep.file}`.", ""]
    if len(sweep.cases) > 1:
        lines += [overview(sweep, found), ""]
    for case in sweep.cases:
        here = [row for row in found if row.case == case]
        if here:
            lines += [*([f"### {case}", ""] if case else []), *_about(here)]
            lines += [_case_table(sweep, here, published.get(case, [])), ""]
    return "\n".join(lines + _tuning(sweep, records))


def overview(sweep: Sweep, found: Sequence[Row]) -> str:
    """Methods x cases, in Markdown: the negative log-likelihood."""
    cases = [case for case in sweep.cases if any(row.case == case for row in found)]
    cells = {(row.method, row.case): _nll(row) for row in found}
    body = [
        [label, *(cells.get((method, case), "") for case in cases)]
        for method, label in sweep.methods.items()
        if any(row.method == method for row in found)
    ]
    return _markdown(["NLL, nats", *(case or sweep.name for case in cases)], body)


def summary_csv(sweep: Sweep, records: Mapping[str, Record]) -> str:
    """The rows as CSV: of every number the mean over seeds, the half-width of its interval, and the count of seeds."""
    places = [place for place in dict.fromkeys([*NUMBERS, *sweep.further]) if place not in NO_QUANTITIES]
    measures = [*places, f"nll minus {sweep.reference}"] if sweep.reference else places
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["case", "method", "arguments", "candidates", "scored", "failed"]
    writer.writerow([*head, *(f"{name}{what}" for name in measures for what in ("", " ±95%", " n"))])
    for row in rows(sweep, records):
        intervals = [row.over_seeds(place) for place in places] + [row.difference] * (sweep.reference is not None)
        cells = [part for interval in intervals for part in (interval or ("", "", 0))]
        about = [row.case, row.method, row.trials[0].shown, row.among, len(row.records), len(row.failures)]
        writer.writerow([*about, *("" if cell is None else cell for cell in cells)])
    return file.getvalue()


# ---- the table of a case


def _about(here: Sequence[Row]) -> list[str]:
    """How many test points there are, and how many of them are training points."""
    counts = [value for row in here for value in row.values("nll.n")]
    if not counts:
        return []
    low, high = min(counts), max(counts)
    points = f"{low:,} test points" if low == high else f"{low:,} to {high:,} test points"
    shares = [value for row in here for value in row.values("split.twin_share")]
    twins = f"; {100 * sum(shares) / len(shares):.1f} % of them are also training points" if any(shares) else ""
    return [f"{points}{twins}.", ""]


def _case_table(sweep: Sweep, here: Sequence[Row], published: Sequence[Published]) -> str:
    label = sweep.methods.get(sweep.reference or "", "")
    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda row: sweep.methods[row.method] + " †" * row.stale,
        "NLL": _nll,
        "without twins": _without_twins,
        f"minus {label}": lambda row: _cell(row.difference),
        "perfect model": lambda row: _cell(row.over_seeds("perfect_model.mean")),
        "gap": lambda row: _cell(row.over_seeds("nll_gap.mean")),
        **{name: partial(_further, places) for name, places in sweep.columns.items()},
        "smallest scale": _scale,
        "field evaluations": lambda row: _mean(row, "nfe") if any(row.values("nfe")) else "",
        "CPU-s": lambda row: f"{_mean(row, 'seconds.training.cpu')} + {_mean(row, 'seconds.evaluation.cpu')}",
        "integral": _integral,
        "seeds": lambda row: str(len(row.records)),
        "`python train.py` …, or source": _command,
    }
    body = [[column(row) for column in columns.values()] for row in here]
    for row in published:
        value = _as_printed(row.value) + ("" if row.error is None else f" ± {_as_printed(row.error)}")
        body.append([f"{row.method}, published", value, *[""] * (len(columns) - 3), row.source])
    kept = [k for k in range(len(columns)) if any(line[k] for line in body)]
    heads = list(columns)
    return _markdown([heads[k] for k in kept], [[line[k] for k in kept] for line in body])


def _nll(row: Row) -> str:
    value = _cell(row.over_seeds("nll.mean"))
    if any(record.number("nll_exact") is False for record in row.records.values()):
        value += ", no exact value"
    if row.failures:
        seeds = ", ".join(map(str, row.failures))
        value = f"{value or 'none'}; failed: seed {seeds}"
    return value


def _further(places: Sequence[str], row: Row) -> str:
    value, *floors = (_cell(row.over_seeds(place)) for place in places)
    return value + "".join(f" ({floor})" for floor in floors if value)


def _without_twins(row: Row) -> str:
    return _cell(row.over_seeds("nll_without_twins.mean")) if any(row.values("split.twin_share")) else ""


def _scale(row: Row) -> str:
    radians, units = row.values("resolution.radians"), row.values("resolution.data_units")
    return f"{min(radians):.1e} rad" if radians else f"{min(units):.1e}" if units else ""


def _integral(row: Row) -> str:
    """Over the runs where it was measured, which are counted where they are not all."""
    pairs = [(record.number("normalisation"), record.number("normalisation_error")) for record in row.records.values()]
    errors = [error for _, error in pairs if error is not None]
    measured = [(value, error) for value, error in pairs if value is not None and error is not None]
    if not errors:
        return ""
    if not measured:  # an error may be small because nearly all ratios are zero
        large = [error for error in errors if error > LARGEST_ERROR]
        return f"not measured, ± {min(large):.2f} at best" if large else "not measured"
    mean = sum(value for value, _ in measured) / len(measured)
    error = math.sqrt(sum(error**2 for _, error in measured)) / len(measured)
    share = "" if len(measured) == len(pairs) else f" ({len(measured)} of {len(pairs)})"
    return f"{mean:.3f} ± {error:.3f}{share}"


def _command(row: Row) -> str:
    best = "" if row.among == 1 else f", best of {row.among} on validation"
    return f"`{row.trials[0].shown}`{best}"


def _mean(row: Row, place: str) -> str:
    found = row.over_seeds(place)
    return "" if found is None else f"{found.mean:,.0f}"


# ---- what was chosen


def _tuning(sweep: Sweep, records: Mapping[str, Record]) -> list[str]:
    """Every candidate with its value on validation points, and never on test points."""
    body = []
    for group in sweep.groups:
        options = candidates(sweep, group, records)
        for option in options if len(options) > 1 else []:
            if option.validation is not None:
                settings = ", ".join(f"{key}={as_text(value)}" for key, value in option.trials[0].settings.items())
                value = _cell(option.validation) if math.isfinite(option.validation.mean) else "failed"
                body.append(
                    [group.case, sweep.methods[group.method], f"`{settings}`", value, "chosen" * bool(option.chosen)]
                )
    if not body:
        return []
    head = ["case", "method", "settings", sweep.select, ""]
    return ["<details><summary>Choices on validation points</summary>", "", _markdown(head, body), "", "</details>", ""]


# ---- text


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return ""
    value = f"{interval.mean:.3f}".replace("-", "−")
    return value if interval.half is None else f"{value} ± {interval.half:.3f}"


def _as_printed(value: float) -> str:
    """With the two digits that papers have, or more where a value has more."""
    return max(f"{value:.2f}", f"{value:g}", key=len).replace("-", "−")


def _markdown(head: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, body)])
