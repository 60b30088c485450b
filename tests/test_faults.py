"""Runs that are ended in every way: none hangs, none leaves a torn file, and what is continued ends with the same bits.

All but the last ones are forks of this process, which save the ten seconds that importing takes.
"""

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rsgm.data
from helpers import running
from rsgm.cli import train
from rsgm.models import read_checkpoint
from rsgm.training import Training
from test_resume import OF_EACH_MODEL, assert_same_run, last
from tiny import (
    LAST,
    ROOT,
    best,
    enter,
    logged,
    metrics,
    points,
    same,
    small_network,
    smaller,
    weights,
    without_figures,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

#: seconds in which a run has to end that was asked to, or has lost one of its processes
BOUND = 30
TINY = ["--config=tiny.yaml", "--trainer.max_steps=12", "--save_every=3"]
DDP = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: 1}
WHO = {"first": (0,), "second": (1,), "both": (0, 1)}
#: the step at which a run is ended, and the step that a checkpoint has then
AT = {"training_step": (7, 8), "validation_step": (5, 5)}
#: those that a process can answer
ASKING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
#: what was started and has not been waited for
CHILDREN: list[int] = []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    yield enter(tmp_path, monkeypatch)
    for child in CHILDREN:  # of a test that has failed
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    CHILDREN.clear()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run that all others are compared with."""
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        made = enter(tmp_path_factory.mktemp("undisturbed"), patch)
        assert wait(start(*TINY, "--name=whole"), 120) == 0, said()
    return made / "runs/whole"


@pytest.fixture
def whole(folder, undisturbed):
    """The same, as a run of the present folder."""
    Path("runs").mkdir()
    Path("runs/whole").symlink_to(undisturbed)


def start(*args: str, before: Callable[[], None] = lambda: None, **env: str) -> int:
    """The process of a run, as the command starts it, after ``before``."""
    child = os.fork()
    if child:
        CHILDREN.append(child)
        return child
    status = 70
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(env)
        output = os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (open(stream, "w", 1, closefd=False) for stream in (1, 2))  # noqa: SIM115
        before()
        status = train(list(args))
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def two(*args: str, before: Callable[[], None] = lambda: None, ranks: tuple[int, ...] = (0, 1)) -> list[int]:
    """The processes of a run of two, as a launcher of clusters starts them."""
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(random.randrange(20000, 60000))}
    env |= {"WORLD_SIZE": "2", "NODE_RANK": "0"}
    return [start(*args, *DDP, before=before, LOCAL_RANK=str(rank), **env) for rank in ranks]


def first(owner: Any, name: str, act: Callable[..., None]) -> Callable[[], None]:
    """Makes a function do something else first."""

    def patch() -> None:
        function = getattr(owner, name)

        def both(*args, **options):
            act(*args)
            return function(*args, **options)

        setattr(owner, name, both)

    return patch


def slowly(where: str, seconds: float = 0.2) -> Callable[[], None]:
    """Makes a hook of training take its time from the step of `AT` on, and leave a file that says so."""

    def act(module, *_):
        if module.global_step >= AT[where][0]:
            Path(f"there.{module.global_rank}").touch()
            time.sleep(seconds)

    return first(Training, where, act)


def staying(owner: Any, name: str) -> Callable[[], None]:
    """Makes a function stay where it is."""

    def act(*_):
        Path(f"there.{os.environ.get('LOCAL_RANK', 0)}").touch()
        time.sleep(60)

    return first(owner, name, act)


SETTING_UP = staying(rsgm.data.LawData, "setup")
SCORING = staying(sys.modules["rsgm.cli.commands"], "evaluate")


def wait(child: int, seconds: float = BOUND) -> int | None:
    """The exit status, negative of a signal; None of one that goes on, which is killed."""
    ended = until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), seconds)
    os.kill(child, signal.SIGKILL)  # which does nothing to one that has ended
    CHILDREN.remove(child)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if ended else None


def until(condition: Callable[[], Any], seconds: float = 120) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def wait_for(*ranks: int) -> None:
    """Until these processes are where they are slow."""
    assert until(lambda: all(Path(f"there.{rank}").exists() for rank in ranks or (0,))), said()


def said() -> str:
    return Path("out.txt").read_text(errors="replace") if Path("out.txt").exists() else ""


def assert_clean(name: str = "tiny") -> None:
    """Whatever is there is whole."""
    assert not list(Path("runs").rglob("*.part"))
    for path in Path("runs", name).rglob("*.ckpt"):
        read_checkpoint(path)


# ---- one process


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("where", AT)
def test_a_signal_saves_and_the_run_goes_on(where, number, whole, count):
    child = start(*TINY, before=slowly(where, 1.0))
    wait_for()
    began = time.monotonic()
    os.kill(child, number)
    status = wait(child)
    count("signals to one process", status != STATUS[number])
    assert status == STATUS[number], said()
    assert time.monotonic() - began < 6
    assert read_checkpoint(last())["global_step"] == AT[where][1]
    name = signal.Signals(number).name
    (line,) = [line for line in said().splitlines() if "stopped by" in line]
    assert f"stopped by {name}. runs/tiny/version_0/last.ckpt is saved; to go on: train.py --config=tiny" in line
    assert line.endswith("--ckpt_path=last")
    assert "Traceback" not in said()
    assert wait(start(*TINY, "--ckpt_path=last"), 120) == 0
    assert_same_run("tiny")


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize(
    "before, line",
    [
        (SETTING_UP, "Nothing is saved; start again."),
        (SCORING, "Training is done; to score it: evaluate.py --ckpt runs/tiny/version_0/best.ckpt"),
    ],
    ids=["setting up", "scoring"],
)
def test_a_signal_outside_of_training(before, line, number, folder, count):
    """While data are set up nothing is left behind; in the evaluation a line names the command that scores."""
    child = start(*TINY, before=before)
    wait_for()
    os.kill(child, number)
    status = wait(child, 10)
    count("signals to one process", status != STATUS[number])
    assert status == STATUS[number], said()
    assert f"train.py: stopped by {signal.Signals(number).name}. {line}" in said()
    assert "Traceback" not in said()
    assert before is SCORING or not Path("runs").exists()


def killed_at(call: str, nth: int, after: bool) -> Callable[[], None]:
    """Kills the process in its n-th call of a function of `os`, before or after it has done its work."""
    function, calls = getattr(os, call), 0

    def act(*args):
        nonlocal calls
        calls += 1
        if calls == nth:
            if after:
                function(*args)
            os.kill(os.getpid(), signal.SIGKILL)

    return first(os, call, act)


PLACED = [(call, nth, after) for call in ("fsync", "replace") for nth in range(2, 9) for after in (False, True)]


@pytest.mark.parametrize(
    "call, nth, after",
    [pytest.param(*placed, marks=[] if placed in PLACED[5::9] else pytest.mark.slow) for placed in PLACED],
)
def test_a_kill_within_a_write(call, nth, after, whole, count):
    """Of a checkpoint, before or after it is on disk and has its name: the run goes on to the same bits."""
    status = wait(start(*TINY, before=killed_at(call, nth, after)), 120)
    resumable = last().exists()
    again = wait(start(*TINY, *(["--ckpt_path=last"] if resumable else [])), 120)
    if not resumable:  # the killed one is left as it is
        Path("runs/tiny/version_0").rename("runs/killed")
        Path("runs/tiny/version_1").rename("runs/tiny/version_0")
    steps = logged(last().parent)
    count("kills within a write", again != 0 or steps != set(range(12)))
    assert status == -signal.SIGKILL
    assert again == 0, said()
    assert steps == set(range(12))
    assert_same_run("tiny")
    assert_clean() if resumable else None


FAMILIES = {**LAST, **OF_EACH_MODEL}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "RSGM" else pytest.mark.slow) for n in FAMILIES])
def test_every_family_survives_random_kills(name, folder, count, monkeypatch):
    for part in ("evaluate", "log_result", "report"):  # which take a minute for pictures, and learn nothing
        monkeypatch.setattr(f"rsgm.cli.commands.{part}", lambda *_: {})
    config = FAMILIES[name]
    args = [f"--config={config}", *small_network(config), *smaller(config, points(folder)), "--save_every=2"]
    if name in OF_EACH_MODEL:
        args += ["--data.steps_per_epoch=6", "--trainer.max_steps=12"]
    args += ["--trainer.accelerator=cpu", "--trainer.enable_model_summary=false", "--trainer.enable_progress_bar=false"]
    began = time.monotonic()
    assert wait(start(*args, "--name=whole"), 240) == 0, said()
    takes, chance = time.monotonic() - began, random.Random(name)
    kills, status = 0, None
    while status is None and kills < 4:
        known = list(Path("runs/tiny").glob("*/last.ckpt"))
        assert len(known) < 2  # a killed run without a checkpoint is not continued; one that has some always is
        again = ["--ckpt_path=last"] if known else []
        status = wait(start(*args, "--name=tiny", *again), chance.uniform(0.2, 1.2) * takes if kills < 3 else 240)
        kills += status is None
    found = list(Path("runs/tiny").glob("*/last.ckpt"))
    lost = status != 0 or len(found) != 1 or not same(weights(found[0]), weights(last("whole")))
    for _ in range(kills):
        count("random kills", lost)
    assert not lost, said()


def test_races_of_two_starts(folder, count):
    """Each gets a folder of its own; of two that continue one run, the second is told so."""
    for k in range(3):
        name = f"--name=race{k}"
        both = [start(*TINY, name) for _ in range(2)]
        ended = [wait(child, 120) for child in both]
        complete = sorted(path.parent.name for path in Path(f"runs/race{k}").glob("*/metrics.json"))
        count("races", complete != ["version_0", "version_1"])
        assert ended == [0, 0], said()
        assert complete == ["version_0", "version_1"]
    longer = ["--config=tiny.yaml", "--trainer.max_steps=20", "--name=race0", "--ckpt_path=last"]
    one = start(*longer, before=slowly("training_step", 1.0))
    wait_for()
    second = wait(start(*longer), 60)
    count("races", second != 2)
    assert second == 2, said()
    assert "version_1 is in use: another process is at work on this run." in said()
    assert wait(one, 60) == 0


@pytest.mark.parametrize("nth, left", [(1, set()), (3, {"best.ckpt", "last.ckpt"})])
def test_a_full_disk_ends_a_run_in_a_sentence(nth, left, folder, count):
    """In the first write of a checkpoint, and in the third."""
    write, calls = Path.write_bytes, 0

    def act(path, data):
        nonlocal calls
        calls += path.name.endswith(".ckpt.part")
        if calls >= nth:
            write(path, bytes(data)[:1000])
            raise OSError(28, os.strerror(28), str(path))

    status = wait(start(*TINY, before=first(Path, "write_bytes", act)), 120)
    count("full disks", status != 1)
    assert status == 1, said()
    assert "was not written: No space left on device. What had this name before is as it was" in said()
    assert "Traceback" not in said()
    assert {path.name for path in Path("runs").rglob("*.ckpt*")} <= left
    assert_clean()


# ---- two processes


def all_ended(children: list[int], count) -> list[int | None]:
    """Their statuses, in the seconds that all of them have."""
    deadline = time.monotonic() + BOUND
    statuses = [wait(child, deadline - time.monotonic()) for child in children]
    count("endings of two processes", None in statuses)
    return statuses


def status_of(number: signal.Signals, hit: bool) -> int:
    return -signal.SIGKILL if hit and number == signal.SIGKILL else STATUS[number]


WAYS = {
    "max_steps": ["--trainer.max_steps=7"],
    "max_epochs": ["--trainer.max_steps=-1", "--trainer.max_epochs=2"],
    "max_time": ["--trainer.max_steps=-1", "--trainer.max_time=00:00:00:02"],
    "no_validation": ["--trainer.max_steps=7", "--trainer.limit_val_batches=0"],
    "within_the_first_epoch": ["--trainer.max_steps=4"],
}


@pytest.mark.parametrize("way", ["max_steps", *(pytest.param(way, marks=pytest.mark.slow) for way in list(WAYS)[1:])])
def test_two_processes_end_by_themselves(way, folder, count):
    assert all_ended(two("--config=tiny.yaml", *WAYS[way]), count) == [0, 0], said()
    assert metrics()["nll"]["n"] == 30
    assert_clean()


SIGNALS = [(number, who, where) for number in STATUS for who in WHO for where in AT]
SIGNALS = [(number, who, where) for number, who, where in SIGNALS if (number, who) != (signal.SIGKILL, "both")]
FEW = [
    (signal.SIGTERM, "both", "training_step"),
    (signal.SIGTERM, "second", "validation_step"),
    (signal.SIGKILL, "second", "training_step"),
]


@pytest.mark.parametrize(
    "number, who, where",
    [pytest.param(*case, marks=[] if case in FEW else pytest.mark.slow) for case in SIGNALS],
    ids=str,
)
def test_two_processes_are_ended_by_a_signal(number, who, where, folder, count):
    children = two(*TINY, "--data.eval_batch_size=5", before=slowly(where))  # so that a validation has several
    wait_for(0, 1)
    time.sleep(random.uniform(0, 0.3))
    for rank in WHO[who]:
        os.kill(children[rank], number)
    statuses = all_ended(children, count)
    assert statuses == [status_of(number, rank in WHO[who]) for rank in range(2)], said()
    # the last complete step; where the process that writes is killed, that of its last write
    written = {"training_step": 6, "validation_step": 3}[where]
    assert read_checkpoint(last())["global_step"] >= (written if statuses[0] == -signal.SIGKILL else AT[where][0])
    assert_clean()
    if number != signal.SIGKILL:
        assert "Traceback" not in said()
        assert said().count("stopped by") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", ASKING)
def test_two_processes_are_ended_while_they_set_up(number, folder, count):
    children = two(*TINY, before=SETTING_UP)
    wait_for(0, 1)
    for child in children:
        os.kill(child, number)
    assert all_ended(children, count) == [STATUS[number]] * 2, said()
    assert said().count("Nothing is saved; start again.") == 1
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS)
def test_the_first_of_two_processes_is_ended_while_it_evaluates(number, folder, count):
    """The other one has ended."""
    children = two(*TINY, before=SCORING)
    wait_for(0)
    os.kill(children[0], number)
    assert all_ended(children, count) == [status_of(number, True), 0], said()
    assert number == signal.SIGKILL or said().count("to score it: evaluate.py --ckpt") == 1
    assert_clean()
    assert best().exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", ASKING[:2])
@pytest.mark.parametrize("other", ["has never started", "has stopped"])
def test_a_process_that_waits_for_another_one_is_ended(other, number, folder, count):
    """For ever, in a call that no signal interrupts."""
    if other == "has never started":
        children = two(*TINY, ranks=(0,))
        assert until(lambda: "Run folder:" in said())
        time.sleep(2)
    else:
        children = two(*TINY, before=slowly("training_step"))
        wait_for(0, 1)
        os.kill(children[1], signal.SIGSTOP)
        time.sleep(1)
    os.kill(children[0], number)
    assert all_ended(children[:1], count) == [STATUS[number]], said()
    assert f"waiting for another one ({number.name})" in said()


# ---- two processes that Lightning starts, in interpreters of their own

SLOW = """
import time
from pathlib import Path
from pytorch_lightning import Callback

class Slow(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step >= 7:
            Path(f"there.{trainer.global_rank}").touch()
        time.sleep(0.2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment, number, who",
    [
        ("starting", signal.SIGTERM, "both"),
        ("starting", signal.SIGINT, "first"),
        ("starting", signal.SIGKILL, "first"),
        ("starting", signal.SIGKILL, "second"),
        ("training", signal.SIGTERM, "first"),
        ("training", signal.SIGINT, "both"),
        ("training", signal.SIGKILL, "first"),
        ("training", signal.SIGKILL, "second"),
        ("evaluating", signal.SIGTERM, "first"),
        ("evaluating", signal.SIGKILL, "second"),
    ],
)
def test_the_command_is_ended_by_a_signal(moment, number, who, folder, count):
    """As it is started by hand: the first process starts the second and looks after it, and the second after it."""
    Path("slow.py").write_text(SLOW)
    with Path("out.txt").open("w") as output:
        parent = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *TINY, *DDP, "--trainer.callbacks=slow.Slow"],
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{Path.cwd()}", "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    assert until(lambda: parent.poll() is not None or child_of(parent.pid)), said()
    pids = parent.pid, child_of(parent.pid)
    if moment == "starting":
        time.sleep(random.uniform(0, 4))
    elif moment == "training":
        wait_for(0, 1)
    else:
        assert until(lambda: "1/6 likelihood" in said())
    for rank in WHO[who]:
        if running(pids[rank]):
            os.kill(pids[rank], number)
    ended = until(lambda: parent.poll() is not None and not running(pids[1]), BOUND)
    count("endings of two processes", not ended)
    for pid in pids:
        if running(pid):
            os.kill(pid, signal.SIGKILL)
    status = parent.wait()
    assert ended, said()
    if moment == "evaluating" and who == "second":
        assert status == 0, said()  # its work was done
    elif number == signal.SIGKILL:
        assert status == status_of(number, who == "first"), said()
    else:
        assert status == STATUS[number] or moment == "starting", said()
    assert_clean()
    if moment == "training" and number != signal.SIGKILL:
        assert read_checkpoint(last())["global_step"] >= 7


def child_of(pid: int) -> int | None:
    """The process that Lightning has started."""
    for path in Path("/proc", str(pid), "task").glob("*/children"):
        for child in path.read_text().split():
            if "train.py" in Path("/proc", child, "cmdline").read_text():
                return int(child)
    return None
