"""Sweeps on Ray whose workers, nodes and drivers are killed: the numbers of one that nobody disturbed, none twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from helpers import running
from rsgm.models import read_checkpoint
from tiny import ROOT, TINY, same

pytest.importorskip("ray")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

#: long enough to be killed in the middle, with a checkpoint to go on from
SWEEP = {
    "config": "tiny.yaml",
    "set": {"trainer.max_steps": 900, "data.steps_per_epoch": 300, "save_every": 50},
    "seeds": [0, 1],
}
#: what tells runs apart that are the same
PASSING = {"seconds", "peak_memory_mb", "versions"}


def start(folder: Path, *args: str, text: dict = SWEEP) -> subprocess.Popen[str]:
    """`rsgm sweep` in a process of its own."""
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "s.yaml").write_text(yaml.safe_dump(text))
    return subprocess.Popen(
        [sys.executable, "-m", "rsgm", "sweep", "s.yaml", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(driver: subprocess.Popen[str], status: int = 0) -> str:
    """What it printed."""
    printed, _ = driver.communicate(timeout=400)
    assert driver.returncode == status, printed
    return printed


def wait_for(found, seconds: float = 200) -> Path:
    """The first that there is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in found():
            return path
        time.sleep(0.05)
    raise TimeoutError


def begun(folder: Path) -> Path:
    """The folder of a trial that has a checkpoint, and no result."""
    return wait_for(
        lambda: [
            path.parent.parent
            for path in folder.glob("runs/s/*/version_0/last.ckpt")
            if not path.with_name("metrics.json").exists()
        ]
    )


def process_of(trial: Path) -> int:
    return int((trial / "lock").read_text().split()[-1])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def starts(trial: Path) -> int:
    return (trial / "log.txt").read_text().count("Run folder:")


def trials(folder: Path) -> list[Path]:
    return sorted((folder / "runs/s").glob("tiny-*"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    end(start(folder, "--cpus=2"))
    assert [starts(trial) for trial in trials(folder)] == [1, 1]
    return folder


@pytest.fixture
def assert_same_sweep(tmp_path, calm, count):
    """The same trials, each to its end once, with the same numbers and weights."""

    def differ(one: Path, other: Path) -> bool:
        if [str(path.relative_to(one)) for path in one.rglob("metrics*.json")] != ["version_0/metrics.json"]:
            return True
        numbers = [json.loads((path / "version_0/metrics.json").read_text()) for path in (one, other)]
        plain = [{key: value for key, value in found.items() if key not in PASSING} for found in numbers]
        weights = [read_checkpoint(path / "version_0/best.ckpt")["state_dict"] for path in (one, other)]
        ends = (one / "log.txt").read_text().count("test NLL")
        return ends != 1 or plain[0] != plain[1] or not same(*weights)

    def compare() -> None:
        found, expected = trials(tmp_path), trials(calm)
        names = [path.name for path in found] == [path.name for path in expected]
        other = [one.name for one, whole in zip(found, expected, strict=False) if differ(one, whole)]
        count("disturbed sweeps", bool(other) or not names)
        assert names
        assert not other

    return compare


@pytest.mark.slow
def test_what_no_node_has_is_not_waited_for(tmp_path):
    driver = start(tmp_path, "--cpus=1", text=SWEEP | {"cpus": 3})
    assert "asks for 3 CPU on one node, and those that are there have 1 CPU and 0 GPU; lower its cpus" in end(driver, 2)


def test_a_worker_is_killed(tmp_path, assert_same_sweep):
    driver = start(tmp_path, "--cpus=1")
    trial = begun(tmp_path)
    pid = process_of(trial)
    os.kill(parent_of(pid), signal.SIGKILL)
    end(driver)
    assert starts(trial) == 2
    assert_same_sweep()


def test_the_driver_is_killed_and_started_again(tmp_path, assert_same_sweep):
    driver = start(tmp_path, "--cpus=1")
    done = wait_for(lambda: list(tmp_path.glob("runs/s/*/version_0/metrics.json"))).parent.parent
    trial = begun(tmp_path)
    driver.kill()
    driver.communicate()
    end(start(tmp_path, "--cpus=1"))
    assert [starts(done), starts(trial)] == [1, 2]
    assert_same_sweep()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_leaves_checkpoints(number, tmp_path, assert_same_sweep):
    driver = start(tmp_path, "--cpus=2")
    trial = begun(tmp_path)
    pid = process_of(trial)
    driver.send_signal(number)
    assert "To go on: rsgm sweep s.yaml --cpus=2" in end(driver, 128 + number)
    assert not running(pid)
    end(start(tmp_path, "--cpus=2"))
    assert starts(trial) == 2
    assert_same_sweep()


@pytest.mark.slow
def test_a_node_is_killed(tmp_path, assert_same_sweep, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))  # of the nodes
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        driver = start(tmp_path, f"--address={cluster.address}")
        trial = begun(tmp_path)
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
        cluster.remove_node(raylets[parent_of(parent_of(process_of(trial)))], allow_graceful=False)
        end(driver)
        assert starts(trial) == 2
        assert_same_sweep()
    finally:
        cluster.shutdown()
