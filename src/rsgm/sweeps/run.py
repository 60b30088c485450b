"""A trial as a process of its own, which is `train.py`'s command: begun, continued, or found to be finished."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from rsgm.files import write_text
from rsgm.sweeps.plan import SweepError
from rsgm.sweeps.trial import Trial

#: seconds that a run has to write its checkpoint when the sweep is stopped
GRACE = 60
#: seconds between two looks at a run or its lock: a call that waits could not be interrupted by Ray
_POLL = 0.25
#: lines of a log that a failure shows
_TAIL = 12
#: of a run whose parent dies the kernel asks what Ctrl-C asks of the parent: to write `last.ckpt` and end
_CHILD = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, "-m", "rsgm", "train", *sys.argv[1:]])
"""


class Job(NamedTuple):
    """What it takes to run a trial, wherever that is.

    Fields:
        name: of the trial, and of its folder
        arguments: of `train.py`
        folder: of the run, with its versions
        cwd: where the command is given
        cpus: threads
        gpus: devices
        retries: how often a run that was killed is continued
    """

    name: str
    arguments: list[str]
    folder: Path
    cwd: Path
    cpus: int
    gpus: float
    retries: int

    @classmethod
    def of(cls, trial: Trial, runs: Path, retries: int, parts: Sequence[Trial] = ()) -> Job:
        """The job of a trial that mixes others, in the folder of its sweep, for the current directory."""
        run = [f"--seed_everything={trial.seed}", f"--runs={runs}", f"--name={trial.name}"]
        if parts:
            run.insert(0, f"--model.models={json.dumps([str(_checkpoint(trial, part, runs)) for part in parts])}")
        cwd = Path.cwd()
        return cls(trial.name, [*trial.arguments, *run], cwd / runs / trial.name, cwd, trial.cpus, trial.gpus, retries)


class Outcome(NamedTuple):
    """How a job ended.

    Fields:
        name: of the trial
        failure: the last lines of its log; None where it was finished
        seconds: that it took here
    """

    name: str
    failure: str | None
    seconds: float


def _checkpoint(trial: Trial, part: Trial, runs: Path) -> Path:
    """What a part has been scored with."""
    scored = metrics_file(runs / part.name)
    if scored is None:
        raise SweepError(
            f"{trial.key} mixes {part.key}, of which {runs} has no checkpoint; run that one there first, without "
            "--missing."
        )
    return scored.parent / json.loads(scored.read_text(encoding="utf-8"))["checkpoint"]


def metrics_file(folder: Path) -> Path | None:
    """What the newest version of a run was scored as; None where the run is not finished."""
    return newest_metrics(folder.glob("version_*/metrics*.json"))


def newest_metrics(paths: Iterable[Path]) -> Path | None:
    """The one that was written last; None of none."""
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def is_running(folder: Path) -> bool:
    """Whether somebody, this sweep or another, is at work on a run."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def run(job: Job) -> Outcome:
    """`attend` to a job until its outcome is known."""
    return next(outcome for outcome in attend(job) if outcome is not None)


def attend(job: Job) -> Iterator[Outcome | None]:
    """Run a job to its end, unless it is finished; continue it from its last checkpoint, if it has one.

    Yields None at each look at the run, and at last its outcome. Where the iteration is left early, the run is asked to
    write its checkpoint and end.

    The process of the run holds a lock on its folder. Whoever comes later, after this sweep or this process was killed,
    waits until that process has ended as well: no run is ever in two hands.
    """
    start = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    failure, log = job.folder / "failure.txt", job.folder / "log.txt"
    with (job.folder / "lock").open("ab") as lock:
        while not _locked(lock):
            time.sleep(_POLL)
            yield None
        failure.unlink(missing_ok=True)
        for _ in range(1 + job.retries):
            status = 0 if metrics_file(job.folder) else (yield from _train(job, log, lock.fileno()))
            if 0 <= status < 128:  # not by a signal
                break
        if metrics_file(job.folder):
            yield Outcome(job.name, None, time.monotonic() - start)
            return
        lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        tail = "\n".join([line for line in lines if line.strip()][-_TAIL:])
        write_text(failure, f"exit status {status}\n{tail}\n")
    yield Outcome(job.name, failure.read_text(encoding="utf-8"), time.monotonic() - start)


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _train(job: Job, log: Path, lock: int) -> Generator[None, None, int]:
    """The exit status of `train.py`, negative or above 128 where a signal ended it."""
    continued = ["--ckpt_path=last"] if any(job.folder.glob("version_*/last.ckpt")) else []
    threads = str(job.cpus)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *job.arguments, *continued],
            cwd=job.cwd,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the sweep, which passes it on once
            pass_fds=(lock,),
        )
        try:
            (job.folder / "lock").write_bytes(f"{platform.node()} {process.pid}\n".encode())  # for whoever looks for it
            while process.poll() is None:
                time.sleep(_POLL)
                yield
            return process.returncode
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a run that is still going: first it may write its checkpoint."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
