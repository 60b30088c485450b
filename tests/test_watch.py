"""A process of several whose main thread waits for another one, and would wait for ever, ends in time and says why."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from helpers import running
from rsgm.training import Signals, Watch, processes
from rsgm.training.signals import ENDING

SLEEP = "import time; time.sleep(60)"
#: the status of a process that was let go
OVER = 3


@pytest.fixture(autouse=True)
def soon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "GRACE", 0.4)
    monkeypatch.setattr(processes, "_POLL", 0.05)


def watch(wait, *others: str, starter: int | None = None) -> None:
    """What a process does that is one of two, starts others, and waits."""
    for number in ENDING:  # one that is ignored, as in the background, stays ignored
        signal.signal(number, signal.SIG_DFL)
    launcher = _SubprocessScriptLauncher(None, 2, 1)
    launcher.procs = [subprocess.Popen([sys.executable, "-c", text]) for text in others]
    Path("others").write_text(" ".join(str(other.pid) for other in launcher.procs))
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(launcher=launcher))
    with Signals() as signals, Watch(trainer, signals, lambda: 0.1, starter) as watch:
        signals.held = True
        wait(watch)
    os._exit(OVER)


def ended(*arguments, **options) -> int:
    """The status of such a process."""
    child = os.fork()
    if child == 0:
        watch(*arguments, **options)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def until(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def for_ever(_) -> None:
    until(lambda: False)


def others_are_gone() -> bool:
    return until(lambda: not any(running(int(pid)) for pid in Path("others").read_text().split()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_after_a_signal(number, capfd):
    """With the processes that it has started, which would wait for it."""

    def wait(_):
        os.kill(os.getpid(), number)
        for_ever(_)

    assert ended(wait, SLEEP) == 128 + number
    assert f"waiting for another one ({number.name}); last.ckpt is as it was last written" in capfd.readouterr().err
    assert others_are_gone()


@pytest.mark.parametrize(
    "other, status, why", [(7, 1, "process 1 of the run has ended with status 7"), (143, 143, "SIGTERM")]
)
def test_after_another_process_has_ended(other, status, why, capfd):
    """By an error, or by a signal in good order, by which this one ends too then."""
    assert ended(for_ever, f"raise SystemExit({other})") == status
    assert f"({why})" in capfd.readouterr().err


@pytest.mark.parametrize("at", ["before", "while"])
def test_after_the_process_that_has_started_it_has_ended(at, capfd):
    """Before the watch begins, or while it lasts."""
    read, write = os.pipe()
    starter = os.fork()
    if starter == 0:
        mine = os.getpid()
        if os.fork() == 0:
            if at == "before":
                until(lambda: os.getppid() != mine)
            watch(lambda _: [Path("waits").touch(), for_ever(_)], starter=mine)
        if at == "while":
            until(Path("waits").exists)
        os._exit(0)
    os.waitpid(starter, 0)
    os.close(write)
    assert os.read(read, 1) == b""  # when nobody has the other end
    assert "(the process of the run that has started this one has ended)" in capfd.readouterr().err


def test_it_lets_go(capfd):
    """Of a process whose others are no longer needed, however they and it end."""
    assert ended(lambda watch: [watch.part(), time.sleep(1)], "", "raise SystemExit(1)", starter=os.getpid()) == OVER
    assert capfd.readouterr().err == ""


def test_the_others_are_waited_for_but_not_for_ever():
    began = time.monotonic()
    assert ended(lambda watch: watch.part(), "import time; time.sleep(0.1)", SLEEP) == OVER
    assert time.monotonic() - began < 10
    assert others_are_gone()
