"""Runs that are ended in every way: none hangs, none leaves a torn file, and what is continued ends with the same bits.

All but the last ones are forks of this process, which save the ten seconds that importing takes.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from rsgm.cli import train
from rsgm.models import read_checkpoint
from rsgm.training import Training
from test_resume import OF_EACH_MODEL, assert_same_run, last
from tiny import ROOT, enter, logged, metrics, points, small_network, smaller, without_figures

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

#: seconds in which a run has to end that was asked to, or has lost one of its processes
BOUND = 30
TINY = ["--config=tiny.yaml", "--trainer.max_steps=12", "--save_every=3"]
DDP = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
NAMES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: 1}
WHO = {"first": (0,), "second": (1,), "both": (0, 1)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return enter(tmp_path, monkeypatch)


@pytest.fixture
def count(record_property):
    """Notes what was tried and what of it was lost, for the last lines."""

    def note(what: str, lost: bool) -> None:
        record_property(f"{what}, tried", 1)
        record_property(f"{what}, lost", int(lost))

    return note


def start(*args: str, before: Callable[[], None] = lambda: None, **env: str) -> int:
    """The process of a run, as the command starts it, after ``before``."""
    child = os.fork()
    if child:
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
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
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


def wait(child: int, seconds: float = BOUND) -> int | None:
    """The exit status, negative of a signal; None of one that hung, which is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def wait_for(path: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not Path(path).exists():
        assert time.monotonic() < deadline, f"{path} has not come\n{said()}"
        time.sleep(0.01)


def said() -> str:
    return Path("out.txt").read_text(errors="replace")


def port() -> str:
    return str(random.randrange(20000, 60000))


def slowly(where: str, seconds: float = 0.2) -> Callable[[], None]:
    """Makes a hook of training take its time, and leave a file that says so."""

    def patch() -> None:
        hook = getattr(Training, where)

        def slow(self, *rest):
            Path(f"{where}{self.global_step}.{self.global_rank}").touch()
            time.sleep(seconds)
            return hook(self, *rest)

        setattr(Training, where, slow)

    return patch


def two(*args: str, before: Callable[[], None] = lambda: None) -> list[int]:
    """Both processes of a run, as a launcher of clusters starts them."""
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    return [start(*args, *DDP, before=before, LOCAL_RANK=str(rank), **env) for rank in range(2)]


def assert_clean(name: str = "tiny") -> None:
    """Whatever is there is whole."""
    assert not list(Path("runs").rglob("*.part"))
    for path in Path("runs", name).rglob("*.ckpt"):
        read_checkpoint(path)


# ---- one process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("where", ["training_step", "validation_step"])
def test_a_signal_saves_and_the_run_goes_on(where, number, folder, count):
    assert wait(start(*TINY, "--name=whole"), 120) == 0
    child = start(*TINY, before=slowly(where, 1.0))
    at = {"training_step": 7, "validation_step": 5}[where]
    wait_for(f"{where}{at}.0")
    began = time.monotonic()
    os.kill(child, number)
    status = wait(child)
    count("signals to one process", status != NAMES[number])
    assert status == NAMES[number], said()
    assert time.monotonic() - began < 6
    assert read_checkpoint(last())["global_step"] == {"training_step": 8, "validation_step": 5}[where]
    name = signal.Signals(number).name
    (line,) = [line for line in said().splitlines() if "stopped by" in line]
    assert f"stopped by {name}. runs/tiny/version_0/last.ckpt is saved; to go on: train.py --config=tiny" in line
    assert line.endswith("--ckpt_path=last")
    assert "Traceback" not in said()
    assert wait(start(*TINY, "--ckpt_path=last"), 120) == 0
    assert_same_run("tiny")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_outside_of_training(number, folder, count):
    """While data are set up nothing is left behind; in the evaluation a line names the command that scores."""

    def waiting(name: str) -> Callable[[], None]:
        def patch() -> None:
            def sleep(*_):
                Path("there").touch()
                time.sleep(60)

            setattr(sys.modules["rsgm.cli.commands"], "evaluate", sleep) if name == "evaluate" else setattr(
                sys.modules["rsgm.data"].LawData, name, sleep
            )

        return patch

    for name, line in (
        ("setup", "Nothing is saved; start again."),
        ("evaluate", "Training is done; to score it: evaluate.py --ckpt runs/tiny/version_0/best.ckpt"),
    ):
        child = start(*TINY, before=waiting(name))
        wait_for("there")
        Path("there").unlink()
        os.kill(child, number)
        status = wait(child, 10)
        count("signals to one process", status != NAMES[number])
        assert status == NAMES[number], said()
        assert f"train.py: stopped by {signal.Signals(number).name}. {line}" in said()
        assert "Traceback" not in said()
        assert name == "evaluate" or not Path("runs").exists()


def killed_at(call: str, k: int, after: bool) -> Callable[[], None]:
    """Kills the process in its k-th call of a function of `os`, before or after it has done its work."""

    def patch() -> None:
        function, calls = getattr(os, call), 0

        def deadly(*args, **options):
            nonlocal calls
            calls += 1
            result = function(*args, **options) if after or calls < k else None
            if calls == k:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, call, deadly)

    return patch


PLACED = [(call, k, after) for call in ("fsync", "replace") for k in range(2, 9) for after in (False, True)]


@pytest.mark.parametrize(
    "placed", [pytest.param(PLACED[5::9]), pytest.param(PLACED, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_kill_within_a_write(placed, folder, count):
    """Of a checkpoint, before or after it is on disk and has its name: the run goes on to the same bits."""
    assert wait(start(*TINY, "--name=whole"), 120) == 0
    for k, (call, nth, after) in enumerate(placed):
        name = f"--name=run{k}"
        status = wait(start(*TINY, name, before=killed_at(call, nth, after)), 120)
        resumable = Path(f"runs/run{k}/version_0/last.ckpt").exists()
        again = wait(start(*TINY, name, *(["--ckpt_path=last"] if resumable else [])), 120)
        same = again == 0
        if same:
            try:
                assert_same_run(f"run{k}") if resumable else None
                assert logged(Path(f"runs/run{k}/version_{int(not resumable)}")) == set(range(12))
            except AssertionError:
                same = False
        count("kills within a write", not same)
        assert status == -signal.SIGKILL
        assert same, (call, nth, after, said())
        # of a run that goes on no rest is left; one that has no checkpoint is left as it is
        assert not resumable or not list(Path(f"runs/run{k}").rglob("*.part"))


FAMILIES = list(OF_EACH_MODEL)


@pytest.mark.parametrize("name", ["RSGM", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "RSGM")])
def test_every_family_survives_random_kills(name, folder, count, monkeypatch):
    for part in ("evaluate", "log_result", "report"):  # which take a minute for pictures, and learn nothing
        monkeypatch.setattr(f"rsgm.cli.commands.{part}", lambda *_: {})
    config = OF_EACH_MODEL[name]
    args = [f"--config={config}", *small_network(config), *smaller(config, points(folder)), "--save_every=2"]
    args += ["--data.steps_per_epoch=6", "--trainer.max_steps=12", "--trainer.accelerator=cpu"]
    args += ["--trainer.enable_model_summary=false", "--trainer.enable_progress_bar=false"]
    began = time.monotonic()
    assert wait(start(*args, "--name=whole"), 240) == 0, said()
    takes, chance = time.monotonic() - began, random.Random(name)
    kills = 0
    for _ in range(20):
        known = list(Path("runs/tiny").glob("*/last.ckpt"))
        child = start(*args, "--name=tiny", *(["--ckpt_path=last"] if known else []))
        status = wait_or_kill(child, chance.uniform(0.2, 1.2) * takes if kills < 3 else 240)
        kills += status == -signal.SIGKILL
        if status == 0:
            break
    newest = max(Path("runs/tiny").glob("version_*"), key=lambda path: int(path.name[8:]))
    version = int(newest.name[8:])
    try:
        for k in range(version):  # those that were killed before their first checkpoint
            assert not (newest.parent / f"version_{k}/last.ckpt").exists()
        newest.rename(newest.parent / "version_0") if not (newest.parent / "version_0").exists() else None
        one, other = (read_checkpoint(path) for path in (newest / "last.ckpt", last("whole")))
        lost = any(not bool((one["state_dict"][k] == other["state_dict"][k]).all()) for k in other["state_dict"])
    except AssertionError:
        lost = True
    for _ in range(kills):
        count("random kills", lost)
    assert status == 0, said()
    assert not lost


def wait_or_kill(child: int, seconds: float) -> int:
    """The exit status of a run that is killed after some seconds, unless it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
    one = start(*longer, before=slowly("training_step"))
    wait_for("training_step15.0")
    second = wait(start(*longer), 60)
    count("races", second != 2)
    assert second == 2, said()
    assert "version_1 is in use: another process is at work on this run." in said()
    assert wait(one, 60) == 0


def test_a_full_disk_ends_a_run_in_a_sentence(folder, count):
    """In the first write of a checkpoint, and in the third."""

    def full(k: int) -> Callable[[], None]:
        def patch() -> None:
            write, calls = Path.write_bytes, 0

            def limited(self, data):
                nonlocal calls
                calls += self.name.endswith(".ckpt.part")
                if calls >= k:
                    write(self, bytes(data)[:1000])
                    raise OSError(28, os.strerror(28), str(self))
                return write(self, data)

            Path.write_bytes = limited

        return patch

    for k, left in ((1, []), (3, ["best.ckpt", "last.ckpt"])):
        Path("out.txt").unlink(missing_ok=True)
        status = wait(start(*TINY, f"--name=full{k}", before=full(k)), 120)
        there = sorted(path.name for path in Path(f"runs/full{k}").rglob("*.ckpt*"))
        count("full disks", status != 1)
        assert status == 1, said()
        assert "was not written: No space left on device. What had this name before is as it was" in said()
        assert "Traceback" not in said()
        assert set(there) <= set(left)
        assert_clean(f"full{k}") if left else None


# ---- two processes


WAYS = {
    "max_steps": ["--trainer.max_steps=7"],
    "max_epochs": ["--trainer.max_steps=-1", "--trainer.max_epochs=2"],
    "max_time": ["--trainer.max_steps=-1", "--trainer.max_time=00:00:00:02"],
    "no_validation": ["--trainer.max_steps=7", "--trainer.limit_val_batches=0"],
    "within_the_first_epoch": ["--trainer.max_steps=4"],
}


@pytest.mark.parametrize("way", ["max_steps", *(pytest.param(way, marks=pytest.mark.slow) for way in list(WAYS)[1:])])
def test_two_processes_end_by_themselves(way, folder, count):
    statuses = [wait(child, 120) for child in two("--config=tiny.yaml", *WAYS[way])]
    count("endings of two processes", None in statuses)
    assert statuses == [0, 0], said()
    assert metrics()["nll"]["n"] == 30
    assert_clean()


SIGNALS = [(number, who, where) for number in NAMES for who in WHO for where in ("training_step", "validation_step")]
SIGNALS = [(number, who, where) for number, who, where in SIGNALS if (number, who) != (signal.SIGKILL, "both")]
FEW = [
    (signal.SIGTERM, "both", "training_step"),
    (signal.SIGTERM, "second", "validation_step"),
    (signal.SIGKILL, "second", "training_step"),
]


@pytest.mark.parametrize(
    "number, who, where",
    [*FEW, *(pytest.param(*rest, marks=pytest.mark.slow) for rest in SIGNALS if rest not in FEW)],
    ids=str,
)
def test_two_processes_are_ended_by_a_signal(number, who, where, folder, count):
    children = two(*TINY, before=slowly(where))
    at = {"training_step": 7, "validation_step": 5}[where]
    for rank in range(2):
        wait_for(f"{where}{at}.{rank}")
    time.sleep(random.uniform(0, 0.3))
    for rank in WHO[who]:
        os.kill(children[rank], number)
    statuses = [wait(child) for child in children]
    count("endings of two processes", None in statuses)
    hit = [-9 if number == signal.SIGKILL and rank in WHO[who] else NAMES[number] for rank in range(2)]
    assert statuses == hit, said()
    # the last complete step; where the process that writes is killed, that of its last write
    lowest = at if hit[0] != -9 else {"training_step": 6, "validation_step": 3}[where]
    assert read_checkpoint(last())["global_step"] >= lowest
    assert_clean()
    if number != signal.SIGKILL:
        assert "Traceback" not in said()
        assert said().count("stopped by") == 1


# ---- two processes that Lightning starts, in interpreters of their own


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting", "training", "evaluating"])
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_the_command_is_ended_by_a_signal(number, who, moment, folder, count):
    Path("slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom pytorch_lightning import Callback\n\n\n"
        "class Slow(Callback):\n    def on_train_batch_start(self, trainer, *_):\n"
        "        Path(f'step{trainer.global_step}.{trainer.global_rank}').touch()\n        time.sleep(0.2)\n"
    )
    with Path("out.txt").open("w") as output:
        first = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *TINY, *DDP, "--trainer.callbacks=slow.Slow"],
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{Path.cwd()}", "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    second = None
    while second is None:
        assert first.poll() is None, said()
        second = next((pid for pid in children_of(first.pid) if "train.py" in command_of(pid)), None)
        time.sleep(0.05)
    if moment == "starting":
        time.sleep(random.uniform(0, 4))
    elif moment == "training":
        wait_for("step7.1")
    else:
        wait_for_text("1/6 likelihood")
    pids = first.pid, second
    for rank in WHO[who]:
        if Path(f"/proc/{pids[rank]}").exists():
            os.kill(pids[rank], number)
    try:
        status = first.wait(BOUND)
    except subprocess.TimeoutExpired:
        first.kill()
        status = None
    deadline = time.monotonic() + BOUND
    while Path(f"/proc/{second}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    left = Path(f"/proc/{second}").exists()
    count("endings of two processes", status is None or left)
    if left:
        os.kill(second, signal.SIGKILL)
    assert status is not None
    assert not left
    if moment == "evaluating" and who == "second":
        assert status == 0, said()  # its work was done
    elif number == signal.SIGKILL:
        assert status == (1 if who == "second" else -9), said()
    else:
        assert status == NAMES[number] or moment == "starting", said()
    assert_clean()
    if moment == "training" and number != signal.SIGKILL:
        assert read_checkpoint(last())["global_step"] >= 7


def children_of(pid: int) -> list[int]:
    found = [path.read_text() for path in Path("/proc", str(pid), "task").glob("*/children")]
    return [int(child) for text in found for child in text.split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_for_text(text: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not re.search(text, said()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)
