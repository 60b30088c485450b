"""The commands `rsgm sweep` and `rsgm results`: many runs, and the tables of them."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType

from jsonargparse.typing import NonNegativeInt, PositiveInt

from rsgm import sweeps
from rsgm.cli.errors import in_one_line
from rsgm.cli.parser import local_path
from rsgm.files import write_text
from rsgm.progress import bar, visible
from rsgm.sweeps import Job, Outcome, Record, Sweep, SweepError, Trial

_RESULTS, _PAGE = Path("results"), Path("RESULTS.md")


def sweep(args: list[str] | None = None, command: str = "rsgm sweep") -> int:
    """Run the trials of a file, or what is left of them, and tabulate them; the exit status."""
    parser = argparse.ArgumentParser(prog=command, description=sweep.__doc__, allow_abbrev=False)
    parser.add_argument("file", type=Path, help="What to run, such as configs/sweep/earth.yaml.")
    parser.add_argument("--runs", type=local_path, default=Path("runs"), help="Folder of all runs (default: runs).")
    parser.add_argument("--method", action="append", default=[], help="Only this method, or pattern; may be repeated.")
    parser.add_argument("--case", action="append", default=[], help="Only this case, or pattern; may be repeated.")
    parser.add_argument("--seed", action="append", default=[], type=int, help="Only this seed; may be repeated.")
    parser.add_argument("--trial", help="Only the trial of this name, without Ray: for an array of jobs.")
    parser.add_argument("--list", action="store_true", help="Print the names of the trials that are left, and end.")
    parser.add_argument("--missing", action="store_true", help=f"Leave out what {_RESULTS}/ has of these settings.")
    parser.add_argument("--cpus", type=PositiveInt, help="Cores of this machine to use (default: all).")
    parser.add_argument("--address", help="A Ray cluster, such as auto or ray://HOST:10001 (default: this machine).")
    parser.add_argument("--serial", action="store_true", help="One trial after another, without Ray.")
    parser.add_argument(
        "--retries", type=NonNegativeInt, default=3, help="How often a run that is killed is continued."
    )
    given = sys.argv[1:] if args is None else args
    options = parser.parse_args(given)
    with _as_interrupts() as signals:
        try:
            with in_one_line(command) as failure:
                return _sweep(Sweep.read(options.file), options)
            return failure.status
        except KeyboardInterrupt:
            print(f"\nStopped. To go on: {command} {shlex.join(given)}", file=sys.stderr)
            return 128 + (signals[0] if signals else signal.SIGINT)


def results(args: list[str] | None = None, command: str = "rsgm results") -> int:
    """Collect the runs of sweeps into results/ and write RESULTS.md; the exit status."""
    parser = argparse.ArgumentParser(prog=command, description=results.__doc__, allow_abbrev=False)
    parser.add_argument("files", type=Path, nargs="*", help="Sweeps whose runs are collected (default: none).")
    parser.add_argument("--runs", type=local_path, default=Path("runs"), help="Folder of all runs (default: runs).")
    options = parser.parse_args(args)
    with in_one_line(command) as failure:
        if len({file.stem for file in options.files}) < len(set(options.files)):
            raise SweepError("found two files of one name, under which results/ would keep both; rename one of them.")
        for file in options.files:
            plan = Sweep.read(file)
            path = _RESULTS / f"{plan.name}.jsonl"
            known, here = sweeps.read(path), sweeps.collect(plan, options.runs / plan.name)
            # what failed here and ended well before, with the same settings, is no news
            known |= {key: record for key, record in here.items() if not _is_better(known.get(key), record)}
            kept = [known[trial.key] for trial in plan.trials if trial.key in known]
            sweeps.write(path, kept)
            left = len(sweeps.due(plan, {record.key: record for record in kept}))
            gone = len(known) - len(kept)
            dropped = f"; {gone} of trials that {file} does not have are dropped" if gone else ""
            print(f"{path}: {len(kept)} runs; {left} are left{dropped}")
        write_text(_PAGE, page(options.files))
        print(f"{_PAGE} written")
        return 0
    return failure.status


def _is_better(known: Record | None, found: Record) -> bool:
    return known is not None and found.failure is not None and known.failure is None and known.digest == found.digest


def page(files: Iterable[Path] = ()) -> str:
    """The page of the committed results, as it is below the current directory: of ``configs/sweep``, and of files."""
    parts = []
    own = sorted(Path("configs/sweep").glob("*.yaml"))
    for file in own + [file for file in files if file.resolve() not in {one.resolve() for one in own}]:
        records = sweeps.read(_RESULTS / f"{file.stem}.jsonl")
        if records:
            plan = Sweep.read(file)
            parts.append((plan, records, sweeps.read_published(_RESULTS / "published.yaml", plan)))
    return sweeps.results_page(parts)


def _sweep(plan: Sweep, options: argparse.Namespace) -> int:
    folder = options.runs / plan.name
    wanted = _wanted(plan, options)
    # what failed is tried again
    records = {key: record for key, record in sweeps.collect(plan, folder).items() if record.failure is None}
    if options.missing:
        kept, now = sweeps.read(_RESULTS / f"{plan.name}.jsonl"), {trial.key: trial.digest for trial in plan.trials}
        records = {key: record for key, record in kept.items() if now.get(key) == record.digest} | records
    if options.list:
        print("\n".join(trial.name for trial, _ in sweeps.due(plan, records) if trial.key in wanted))
        return 0
    failures: dict[str, str] = {}
    with visible(), bar(plan.name, 0, "trials") as shown:
        while ready := [(trial, parts) for trial, parts in sweeps.due(plan, records) if trial.key in wanted]:
            shown.total += len(ready)
            todo = {trial.name: trial for trial, _ in ready}
            waiting = {trial.name: Job.of(trial, folder, options.retries, parts) for trial, parts in ready}
            with closing(_engine(list(waiting.values()), options)) as outcomes:
                for outcome in outcomes:
                    if outcome is not None:
                        del waiting[outcome.name]
                        trial = todo[outcome.name]
                        records[trial.key] = _record(plan, trial, folder, outcome, failures)
                        shown.write(_line(trial, records[trial.key], outcome.seconds), file=sys.stderr)
                        shown.update()
                    running = sum(sweeps.is_running(job.folder) for job in waiting.values())
                    shown.set_postfix_str(f"{running} running, {len(failures)} failed", refresh=False)
                    shown.update(0)
    waits = [trial for trial in plan.trials if trial.parts and trial.key in wanted - records.keys()]
    if waits:
        methods = ", ".join(dict.fromkeys(part.method for part in waits[0].parts))
        print(f"{waits[0].key} waits for its parts, runs of {methods} that have not ended well.", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    if options.trial is None:
        write_text(folder / "summary.md", sweeps.section(plan, records, {}))
        write_text(folder / "summary.csv", sweeps.summary_csv(plan, records))
        write_text(folder / "report.html", sweeps.overview_page(plan, records, folder))
        print(sweeps.overview(plan, sweeps.rows(plan, records)))
        print(
            f"\nThe rest is in report.html, summary.md and summary.csv of {folder}; "
            f"rsgm results {options.file} publishes it."
        )
    for name, failure in failures.items():
        print(f"\n{name} failed; the rest is in {folder / name / 'log.txt'}:\n{failure}", file=sys.stderr)
    return 1 if failures else 0


def _wanted(plan: Sweep, options: argparse.Namespace) -> set[str]:
    """The keys of the trials that the options leave."""

    def leaves(trial: Trial) -> bool:
        named = {"method": trial.method, "case": trial.case}
        patterns = {name: getattr(options, name) for name in named}
        fits = all(not p or any(fnmatchcase(named[name], one) for one in p) for name, p in patterns.items())
        return fits and (not options.seed or trial.seed in options.seed) and options.trial in (None, trial.name)

    found = {trial.key for trial in plan.trials if leaves(trial)}
    if not found:
        raise SweepError(
            f"{options.file}: no trial is left by --method, --case, --seed and --trial; its methods are "
            f"{', '.join(plan.methods)}, its cases {', '.join(plan.cases) or 'none'}; --list prints the trials."
        )
    return found


def _engine(jobs: list[Job], options: argparse.Namespace) -> Iterator[Outcome | None]:
    if options.serial or options.trial is not None:
        return sweeps.one_by_one(jobs)
    return sweeps.on_ray(jobs, options.address, options.cpus)


def _record(plan: Sweep, trial: Trial, folder: Path, outcome: Outcome, failures: dict[str, str]) -> Record:
    """What the run has left; of a failure, which is noted, the last line."""
    if outcome.failure is None:
        return sweeps.collect_one(plan, trial, folder)
    failures[trial.name] = outcome.failure
    return sweeps.failed(trial, outcome.failure)


def _line(trial: Trial, record: Record, seconds: float) -> str:
    """One of the grid shows no number of the test points, by which nobody is to choose."""
    place = "validation.nll" if trial.settings else "nll.mean"
    value = record.number(place)
    result = "failed" if record.failure is not None else "scored" if value is None else f"{place} {value:.3f}"
    return f"{trial.key}: {result}, {seconds:.0f} s"


@contextmanager
def _as_interrupts() -> Iterator[list[int]]:
    """What would end the process is as Ctrl-C, so that the runs are ended first; yields the signals that came."""
    found: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        found.append(number)
        raise KeyboardInterrupt

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield found
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
