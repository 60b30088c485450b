"""Sweeps: what is run, that it is run once, what is chosen and how it is tabulated."""

import csv
import fcntl
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scipy import stats

from rsgm import sweeps
from rsgm.cli import TrainCLI, main
from rsgm.cli.sweep import page
from rsgm.sweeps import Job, Record, Sweep, SweepError, due, one_by_one, rows
from rsgm.sweeps.run import is_running, metrics_file, run
from rsgm.sweeps.statistics import Interval, candidates
from tiny import ROOT

#: in the place of `train.py`: dies of signals as often as it is told, fails when it is told, else scores itself
FAKE = """
import json, os, pathlib, signal, sys
given = dict(a[2:].split("=", 1) for a in sys.argv[1:])
folder = pathlib.Path(given["runs"], given["name"], "version_0")
folder.mkdir(parents=True, exist_ok=True)
(folder / "last.ckpt").touch()
with (folder / "starts.txt").open("a") as starts:
    print(given.get("ckpt_path", "begun"), file=starts)
print("Seed set", flush=True)
if len((folder / "starts.txt").read_text().split()) <= int(given.get("deaths", 0)):
    os.kill(os.getpid(), signal.SIGKILL)
if "fail" in given:
    sys.exit("rsgm train: it went wrong")
x, seed = float(given.get("x", 0)), int(given["seed_everything"])
numbers = {"validation": {"nll": (x - 1) ** 2 + seed}, "nll": {"mean": x + seed / 10, "n": 9}, "nfe": 7.0}
numbers |= {"checkpoint": "best.ckpt", "mixed": given.get("model.models")}
(folder / "metrics.json").write_text(json.dumps(numbers))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """To work in, with a configuration, and without training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rsgm.sweeps.run._CHILD", FAKE)
    (tmp_path / "a.yaml").write_text("model: A\n")
    return tmp_path


def sweep_of(text: str, name: str = "s") -> Sweep:
    """The sweep of a file with this text."""
    Path(f"{name}.yaml").write_text(text)
    return Sweep.read(f"{name}.yaml")


def starts(name: str) -> list[str]:
    """How the runs of a trial were begun."""
    (path,) = Path("runs/s").glob(f"{name}-*/version_0/starts.txt")
    return path.read_text().split()


def scored(sweep: Sweep, number) -> dict[str, Record]:
    """Records of all trials, with the numbers that a function gives; None is a failure."""
    found = {}
    for trial in sweep.trials:
        numbers = number(trial)
        found[trial.key] = Record(trial.key, trial.digest, numbers or {}, None if numbers else "it went wrong")
    return found


# ---- what is run

EARTH = """
methods:
  plain: {config: "{data.name}.yaml"}
  tuned:
    config: [a.yaml, flood.yaml]
    set: {model.width: 8}
    only: "flood *"
    grid: {lr: [0.1, 0.01], b: [x]}
    seeds: [5]
    in: {"* block": {set: {model.depth: 2}, cpus: 2}}
cases:
  flood random: {data.name: flood, data.split: random}
  flood block: {data.name: flood, data.split: block}
  fire block: {data.name: fire}
seeds: [0, 1]
"""


def test_methods_on_cases_with_settings_and_seeds(folder):
    for name in ("flood", "fire"):
        (folder / f"{name}.yaml").write_text(f"data: {name}\n")
    trials = {trial.key: trial for trial in sweep_of(EARTH).trials}
    assert set(trials) == {
        *(f"{case}-plain-seed{seed}" for case in ("flood_random", "flood_block", "fire_block") for seed in (0, 1)),
        *(f"flood_{split}-tuned-lr={lr}-b=x-seed5" for split in ("random", "block") for lr in (0.1, 0.01)),
    }
    assert trials["fire_block-plain-seed1"].arguments == ["--config=fire.yaml", "--data.name=fire"]
    tuned = trials["flood_block-tuned-lr=0.01-b=x-seed5"]
    assert tuned.shown == (
        "--config a.yaml --config flood.yaml --data.name=flood --data.split=block --model.width=8 --model.depth=2 "
        "--lr=0.01 --b=x"
    )
    assert (tuned.cpus, trials["flood_random-tuned-lr=0.1-b=x-seed5"].cpus) == (2, 1)


def test_long_settings_are_told_apart(folder):
    """A file system ends a name somewhere; what follows is in the digest that a long one ends with."""
    grid = [{"class_path": "MLP", "init_args": {"hidden": [512] * 30, "activation": name}} for name in ("sin", "tanh")]
    keys = [trial.key for trial in sweep_of(yaml.safe_dump({"config": "a.yaml", "grid": {"network": grid}})).trials]
    assert len(set(keys)) == 2
    assert max(map(len, keys)) < 120


def test_another_configuration_is_another_run(folder):
    def names() -> list[str]:
        return [trial.name for trial in sweep_of("config: a.yaml\nseeds: [0, 1]").trials]

    before = names()
    assert len(set(before)) == 2
    (folder / "a.yaml").write_text("# the same\nmodel:   A\n")
    assert names() == before
    (folder / "a.yaml").write_text("model: B\n")
    assert not set(names()) & set(before)


@pytest.mark.parametrize(
    "value, text", [(True, "true"), (None, "null"), (1e-3, "0.001"), ([8, 8], "[8, 8]"), ("1e-3",) * 2]
)
def test_values_reach_the_command_line(value, text, folder):
    (trial,) = sweep_of(yaml.safe_dump({"config": "a.yaml", "set": {"key": value}})).trials
    assert trial.arguments[1:] == [f"--key={text}"]
    assert shlex.split(trial.shown)[2:] == trial.arguments[1:]


SEARCH = """
config: a.yaml
search:
  count: 200
  seed: 3
  keys: {rate: {low: 1.e-4, high: 1.e-2, log: true}, width: {low: 8, high: 16}, name: [p, q]}
"""


def test_search_draws_the_same_again(folder):
    drawn = [trial.settings for trial in sweep_of(SEARCH.replace("200", "50")).trials]
    assert [trial.settings for trial in sweep_of(SEARCH).trials][:50] == drawn
    assert [trial.settings for trial in sweep_of(SEARCH.replace("seed: 3", "seed: 4")).trials][:50] != drawn
    found = [trial.settings for trial in sweep_of(SEARCH).trials]
    assert {one["width"] for one in found} == set(range(8, 17))
    assert {one["name"] for one in found} == {"p", "q"}
    rates = [one["rate"] for one in found]
    assert 1e-4 <= min(rates) < max(rates) <= 1e-2
    # even in the logarithm: half of 200 below the geometric mean, five standard deviations
    assert abs(sum(rate < 1e-3 for rate in rates) - 100) < 5 * 200**0.5 / 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("- 1", "expected keys with values"),
        ("a: [", "is no YAML"),
        ("seeds: [0]", "found neither methods nor config"),
        ("config: a.yaml\nsteps: 3", "unknown key 'steps'; expected title"),
        ("methods: {m: {confg: a.yaml}}", "methods.m: unknown key 'confg'; expected config"),
        ("methods: {m: {config: a.yaml, in: {x: {only: y}}}}", "methods.m.in.x: unknown key 'only'"),
        ("methods: {m: {}}", "methods.m: no config"),
        ("config: b.yaml", "found no file b.yaml"),
        ("config: a.yaml\nselect: nll.mean", "select is 'nll.mean', expected a number on validation"),
        ("methods: {m: {config: a.yaml}}\nreference: n", "reference is 'n', expected one of m"),
        ("config: a.yaml\nseeds: [0, 0]", "seeds are [0, 0], expected different whole numbers"),
        ("config: a.yaml\nseeds: [-1]", "seeds are [-1]"),
        ("config: a.yaml\ngrid: {x: [1, 2]}\nseeds: [1]\nselection_seeds: [0]", "has none of the selection_seeds"),
        ("config: a.yaml\ngrid: [1]", "a.grid: found [1], expected keys"),
        ("config: a.yaml\ngrid: {x: []}", "a.grid: x has no values"),
        ("config: a.yaml\nsearch: {count: 0}", "a.search: count is 0"),
        ("config: a.yaml\nsearch: {count: many}", "a.search: count is 'many'"),
        ("config: a.yaml\nsearch: {keys: {x: []}}", "a.search.keys.x: found []"),
        ("config: a.yaml\ncpus: 0", "cpus is 0"),
        ("config: a.yaml\nonly: b\ncases: {a: {}}", "no method has a case"),
        ("methods: {m: {config: a.yaml, parts: [n]}}", "methods.m.parts: 'n' is no other method of the file"),
        (
            "methods: {n: {config: a.yaml, only: x}, m: {config: a.yaml, parts: [n]}}\ncases: {x: {}, y: {}}",
            "has the case 'y'",
        ),
        ("methods: {n: {config: a.yaml, in: {x: {parts: [m]}}}}\ncases: {x: {}}", "methods.n.parts: 'm' is no other"),
        ("methods: {m: {config: a.yaml, parts: [m]}}", "methods.m.parts: 'm' is no other method of the file"),
        ("config: a.yaml\nsearch: {keys: {x: {low: 2, high: 1}}}", "expected a list, or numbers low < high"),
        ("config: a.yaml\nsearch: {keys: {x: {low: 0, high: 1, log: true}}}", "above 0 where log is true"),
        ("config: a.yaml\ncases: {a b: {}, a_b: {}}", "two trials have the name a_b-a-seed0"),
        ("config: a.yaml\ngrid: {x: [1, 1]}", "two trials have the name a-x=1-seed0"),
    ],
)
def test_what_a_file_says_wrong_is_named_in_a_sentence(text, message, folder, capsys):
    (folder / "s.yaml").write_text(text)
    assert main(["sweep", "s.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rsgm sweep: s.yaml")
    assert message in line
    assert not (folder / "runs").exists()


# ---- that it is run once


def test_killed_runs_are_continued_and_failures_stop_nothing(folder, capsys):
    methods = {"ok": {}, "dies": {"deaths": 2}, "fails": {"fail": 1}}
    text = {"methods": {name: {"config": "a.yaml", "set": keys} for name, keys in methods.items()}, "seeds": [0, 1]}
    (folder / "s.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    assert main(["sweep", "s.yaml", "--serial", "--method=*s"]) == 1
    out, error = capsys.readouterr()
    for seed in (0, 1):
        assert starts(f"dies-seed{seed}") == ["begun", "last", "last"]
        assert starts(f"fails-seed{seed}") == ["begun"]  # what goes wrong once goes wrong again
    assert error.count("exit status 1\nSeed set\nrsgm train: it went wrong") == 2
    assert "dies-seed1: nll.mean 0.100" in error
    assert "| dies | 0.050 ± 0.635 |" in out
    assert "| fails | none; failed: seed 0, 1 |" in out
    # what is finished is not run again, what failed is
    assert main(["sweep", "s.yaml", "--serial"]) == 1
    assert starts("dies-seed0") == ["begun", "last", "last"]
    assert starts("fails-seed0") == ["begun", "last"]
    assert starts("ok-seed0") == ["begun"]
    summary = list(csv.DictReader(io.StringIO(Path("runs/s/summary.csv").read_text())))
    assert [(row["method"], row["nll.mean"], row["scored"], row["failed"]) for row in summary] == [
        ("ok", "0.05", "2", "0"),
        ("dies", "0.05", "2", "0"),
        ("fails", "", "0", "2"),
    ]


def test_columns_of_numbers_end_at_one_edge(folder):
    """Whatever form a number has; a column with a word begins at one."""
    found = {"a": (1.5, "sphere"), "b": (1234567.0, "T2"), "c": (math.inf, "SO(3)"), "d": (1e-7, 3.0)}
    for name, (nll, model) in found.items():
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "metrics.json").write_text(json.dumps({"nll": nll, "model": model}))
    lines = sweeps.text_table(sweeps.find_runs(Path("runs")), {"nll": "NLL", "model": "model"}).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["a", "1.5"], ["b", "1.2346e+06"], ["c", "inf"], ["d", "1e-07"]]
    assert {line.index(line.split()[1]) + len(line.split()[1]) for line in lines} == {len("run  1.2346e+06")}
    assert {line.index(line.split()[2]) for line in lines} == {len("run  1.2346e+06  ")}


def test_a_published_failure_names_no_folder_of_the_machine(folder):
    """Of an absolute path the last part; a relative one is of the project."""
    plan = sweep_of("config: a.yaml")
    (trial,) = plan.trials
    run_folder = Path("runs/s") / trial.name
    run_folder.mkdir(parents=True)
    text = (
        "File '/home/me/x y/a.py' and /opt/lib/python3/torch/nn.py: cannot read ../data/a.csv, 3 km/h, 1/2 or ~/b/c.csv"
    )
    (run_folder / "failure.txt").write_text(f"exit status 1\n{text}\n")
    (record,) = sweeps.collect(plan, Path("runs/s")).values()
    assert record.failure == "File 'x y/a.py' and nn.py: cannot read ../data/a.csv, 3 km/h, 1/2 or ~/b/c.csv"


def test_retries_are_bounded(folder, capsys):
    (folder / "s.yaml").write_text("config: a.yaml\nset: {deaths: 9}")
    assert main(["sweep", "s.yaml", "--serial", "--retries=1"]) == 1
    assert starts("a-seed0") == ["begun", "last"]
    assert "exit status -9" in capsys.readouterr().err


def test_a_run_that_goes_on_elsewhere_is_waited_for(folder):
    """The lock is that of the run's own process, whatever has become of the sweep that began it."""
    (trial,) = sweep_of("config: a.yaml").trials
    job = Job.of(trial, Path("runs/s"), retries=0)
    job.folder.mkdir(parents=True)
    assert not is_running(job.folder)
    with (job.folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work = "import pathlib, sys, time; time.sleep(0.5); pathlib.Path(sys.argv[1]).write_text('{}')"
        (job.folder / "version_0").mkdir()
        args = [sys.executable, "-c", work, str(job.folder / "version_0/metrics.json")]
        orphan = subprocess.Popen(args, pass_fds=(lock.fileno(),))
    assert is_running(job.folder)
    assert run(job).failure is None
    assert orphan.wait(timeout=5) == 0
    assert not list(job.folder.glob("version_*/starts.txt"))


def test_a_stop_ends_the_run_and_names_the_command_that_goes_on(folder, monkeypatch, capsys):
    waits = "import os, pathlib, signal, sys, time\npathlib.Path('pid').write_text(str(os.getpid()))\n"
    handler = "signal.signal(15, lambda *_: (pathlib.Path('saved').touch(), sys.exit(143)))\n"
    monkeypatch.setattr("rsgm.sweeps.run._CHILD", handler.join([waits, "os.kill(os.getppid(), 15); time.sleep(60)"]))
    (folder / "s.yaml").write_text("config: a.yaml\nseeds: [0, 1]")
    former = signal.getsignal(signal.SIGTERM)
    assert main(["sweep", "s.yaml", "--serial", "--case=*"]) == 143
    assert "To go on: rsgm sweep s.yaml --serial '--case=*'" in capsys.readouterr().err
    assert (folder / "saved").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) is former


def test_a_run_shows_that_it_is_alive(folder, monkeypatch):
    """Also without Ray, where nothing ends for long: None at each look moves the bar."""
    monkeypatch.setattr("rsgm.sweeps.run._CHILD", f"import time; time.sleep(1)\n{FAKE}")
    (trial,) = sweep_of("config: a.yaml").trials
    *looks, outcome = one_by_one([Job.of(trial, Path("runs/s"), retries=0)])
    assert len(looks) >= 2
    assert set(looks) == {None}
    assert outcome.failure is None


def test_one_trial_of_the_list(folder, capsys):
    """For an array of jobs, without Ray."""
    (folder / "s.yaml").write_text("config: a.yaml\nseeds: [0, 1, 2]")
    assert main(["sweep", "s.yaml", "--list", "--seed=1", "--seed=2"]) == 0
    first, second = capsys.readouterr().out.split()
    assert main(["sweep", "s.yaml", f"--trial={second}"]) == 0
    assert starts("a-seed2") == ["begun"]
    assert not list(Path("runs/s").glob("a-seed1-*"))
    capsys.readouterr()
    assert main(["sweep", "s.yaml", "--list"]) == 0
    assert [name.rpartition("-")[0] for name in capsys.readouterr().out.split()] == ["a-seed0", "a-seed1"]
    assert main(["sweep", "s.yaml", "--trial=a-seed7"]) == 2
    assert "no trial is left" in capsys.readouterr().err
    assert first.startswith("a-seed1-")


def test_without_ray_a_sentence(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    (folder / "s.yaml").write_text("config: a.yaml")
    assert main(["sweep", "s.yaml"]) == 2
    assert 'pip install "rsgm[sweep]"' in capsys.readouterr().err


def test_a_cluster_that_is_not_there(folder, capsys):
    pytest.importorskip("ray")
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        (folder / "s.yaml").write_text("config: a.yaml")
        assert main(["sweep", "s.yaml", f"--address={address}"]) == 2
    assert f"No Ray cluster at {address}" in capsys.readouterr().err


# ---- what is chosen

GRID = """
methods:
  net: {config: a.yaml, grid: {x: [0, 1, 2]}}
  base: {config: a.yaml, set: {x: 5}}
seeds: [0, 1, 2]
reference: base
"""


def test_the_best_on_validation_is_chosen_and_its_tests_alone_are_shown(folder, capsys):
    """By the fake, x = 1 is best on validation points, and x = 0 on test points."""
    (folder / "s.yaml").write_text(GRID)
    assert main(["sweep", "s.yaml", "--serial"]) == 0
    out, error = capsys.readouterr()
    assert "| net | 1.100 ± 0.248 |" in out
    assert "net-x=0-seed2: validation.nll 3.000" in error
    assert "base-seed2: nll.mean 5.200" in error
    plan = Sweep.read("s.yaml")
    records = sweeps.collect(plan, Path("runs/s"))
    net, base = rows(plan, records)
    assert dict(net.trials[0].settings) == {"x": 1}
    assert net.difference == Interval(-4.0, pytest.approx(0, abs=1e-12), 3)
    assert base.difference is None
    text = Path("runs/s/summary.md").read_text()
    assert "| `x=1` | 1.000 ± 2.484 | chosen |" in text
    assert "best of 3 on validation" in text
    # nobody sees that another would have been better
    assert "0.100" not in text
    assert "| net | 1.100 ± 0.248 | −4.000 ± 0.000 |" in text


def test_the_page_of_a_sweep_leads_to_its_runs(folder):
    """Intervals, as numbers and as bars of one scale, and to each run its newest report, or else its numbers."""
    (folder / "s.yaml").write_text("title: <b>A & B</b>\n" + GRID)
    assert main(["sweep", "s.yaml", "--serial"]) == 0
    path = Path("runs/s/report.html")
    plan = Sweep.read("s.yaml")
    net, base = rows(plan, sweeps.collect(plan, Path("runs/s")))
    text = path.read_text()
    assert "<h1>&lt;b&gt;A &amp; B&lt;/b&gt;</h1>" in text
    assert "1.100 ± 0.248" in text
    assert "−4.000 ± 0.000" in text
    bars = [list(map(float, found)) for found in re.findall(r'x1="([\d.]+)" x2="([\d.]+)".*?cx="([\d.]+)"', text)]
    assert [left <= middle <= right for left, right, middle in bars] == [True, True]
    assert bars[0][0] == 3
    assert bars[1][1] == 97
    links = re.findall(r'href="([^"]*)"', text)
    assert len(links) == 6
    assert {Path("runs/s", link) for link in links} == {
        metrics_file(Path("runs/s") / trial.name) for row in (net, base) for trial in row.trials
    }
    assert all(Path("runs/s", link).name == "metrics.json" for link in links)
    # with a report, and a newer one
    run = Path("runs/s", links[0]).parent
    for name in ("report.html", "report_1.html"):
        (run / name).write_text("")
        os.utime(run / name, times=(1e9 + len(name), 1e9 + len(name)))
    assert main(["sweep", "s.yaml", "--serial"]) == 0
    assert (
        re.findall(r'href="([^"]*)"', path.read_text())[0] == (run / "report_1.html").relative_to("runs/s").as_posix()
    )


def test_other_seeds_are_run_of_the_best_only(folder):
    (folder / "s.yaml").write_text(GRID + "selection_seeds: [0, 1]\n")
    assert main(["sweep", "s.yaml", "--serial", "--method=net"]) == 0
    begun = sorted(path.name.rpartition("-")[0] for path in Path("runs/s").glob("net-*"))
    assert begun == sorted([f"net-x={x}-seed{seed}" for x in (0, 1, 2) for seed in (0, 1)] + ["net-x=1-seed2"])


MIXED = """
methods:
  both: {config: a.yaml, parts: [net, law, other], only: c}
  net: {config: a.yaml, grid: {x: [0, 1]}, only: c}
  law: {config: a.yaml, only: c}
  other: {config: a.yaml, only: d}
cases: {c: {}, d: {}}
seeds: [0, 1]
selection_seeds: [0]
"""


def test_a_mixture_is_of_the_best_of_its_parts(folder, capsys):
    """It waits for them, whatever the order of the file; another setting of a part is another mixture."""
    plan = sweep_of(MIXED)
    (both,) = (trial for trial in plan.trials if trial.key == "c-both-seed1")
    assert [part.key for part in both.parts] == ["c-net-x=0-seed1", "c-net-x=1-seed1", "c-law-seed1"]
    assert both.shown == "--config a.yaml '--model.models=[best.ckpt of net, best.ckpt of law]'"
    assert main(["sweep", "s.yaml", "--serial", "--method=both"]) == 0
    assert "c-both-seed0 waits for its parts, runs of net, law that have not ended well." in capsys.readouterr().err
    assert main(["sweep", "s.yaml", "--serial"]) == 0
    for seed in (0, 1):
        (scored,) = Path("runs/s").glob(f"c-both-seed{seed}-*/version_0/metrics.json")
        found = [Path(path) for path in json.loads(json.loads(scored.read_text())["mixed"])]
        assert [path.parts[2].rpartition("-")[0] for path in found] == [f"c-net-x=1-seed{seed}", f"c-law-seed{seed}"]
        assert all(path.name == "best.ckpt" and path.parent.is_dir() for path in found)
    other = sweep_of(MIXED.replace("law: {config: a.yaml,", "law: {config: a.yaml, set: {y: 1},"))
    assert {trial.digest for trial in other.trials if trial.method == "both"}.isdisjoint(
        trial.digest for trial in plan.trials if trial.method == "both"
    )


def test_a_mixture_without_the_checkpoints_of_its_parts(folder, capsys):
    """Results of a part are kept where its run no longer is."""
    (folder / "results").mkdir()
    (folder / "configs/sweep").mkdir(parents=True)
    sweep_of(MIXED)
    assert main(["sweep", "s.yaml", "--serial", "--method=net", "--method=law"]) == 0
    assert main(["results", "s.yaml"]) == 0
    for folder_of_law in Path("runs/s").glob("c-law-*"):
        shutil.rmtree(folder_of_law)
    assert main(["sweep", "s.yaml", "--serial", "--missing"]) == 2
    assert (
        "c-both-seed0 mixes c-law-seed0, of which runs/s has no checkpoint; run that one there first, without "
        "--missing." in " ".join(capsys.readouterr().err.split())
    )


def test_a_candidate_that_failed_is_not_the_best(folder):
    plan = sweep_of(GRID)
    worst = {0: 3.0, 1: 2.0, 2: 1.0}

    def number(trial):
        x = trial.settings.get("x", 0)
        return None if (x, trial.seed) == (2, 1) else {"validation.nll": worst[x], "nll.mean": 0.0}

    records = scored(plan, number)
    assert [candidate.chosen for candidate in candidates(plan, plan.groups[0], records)] == [False, True, False]
    assert [candidate.validation.mean for candidate in candidates(plan, plan.groups[0], records)] == [3, 2, math.inf]
    # what has not ended may still be better
    del records["net-x=0-seed0"]
    assert [candidate.chosen for candidate in candidates(plan, plan.groups[0], records)] == [None] * 3
    assert [trial.key for trial, _ in due(plan, records)] == ["net-x=0-seed0"]
    # and a run without validation is never chosen
    records = scored(plan, lambda trial: {"nll.mean": 0.0})
    assert not any(candidate.chosen for candidate in candidates(plan, plan.groups[0], records))


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.5], [0.3, 0.3], [-1.0, 5.0, 2.0, 2.5, 0.0]])
def test_intervals_are_students(values):
    found = Interval.of(values)
    low, high = stats.t.interval(0.95, len(values) - 1, found.mean, stats.sem(values))
    expected = 0.0 if len(set(values)) == 1 else (high - low) / 2
    assert found.half == pytest.approx(expected, rel=1e-12)
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_one_seed_has_no_interval():
    assert Interval.of([2.0]) == Interval(2.0, None, 1)
    assert Interval.of([]) is None


# ---- how it is tabulated


def test_results_are_collected_and_published(folder, capsys):
    (folder / "configs/sweep").mkdir(parents=True)
    (folder / "configs/sweep/s.yaml").write_text(GRID + "title: A title\nnotes: A note.\ncases: {one: {}}\n")
    (folder / "results").mkdir()
    (folder / "results/published.yaml").write_text(
        "s: [{method: Theirs, source: Somebody 2020, remark: a bound, values: {one: [-0.5, 0.067, misprint of 5]}}]"
    )
    assert main(["sweep", "configs/sweep/s.yaml", "--serial"]) == 0
    assert main(["results", "configs/sweep/s.yaml"]) == 0
    assert "results/s.jsonl: 12 runs; 0 are left" in capsys.readouterr().out
    text = (folder / "RESULTS.md").read_text()
    assert text == page()
    assert "## A title\n\nA note.\n" in text
    assert "| Theirs, published | −0.50 ± 0.067 |" in text
    assert "Somebody 2020; a bound; misprint of 5 |" in text
    assert "†" not in text.split("## A title")[1]
    # the runs may go, the records stay; what is run again replaces its record
    (folder / "runs").rename(folder / "gone")
    assert main(["results", "configs/sweep/s.yaml"]) == 0
    assert (folder / "RESULTS.md").read_text() == text
    capsys.readouterr()
    assert main(["sweep", "configs/sweep/s.yaml", "--list", "--missing"]) == 0
    assert capsys.readouterr().out.strip() == ""
    # a configuration that has changed since is marked
    (folder / "a.yaml").write_text("model: B\n")
    assert page().count(" † |") == 2
    assert main(["sweep", "configs/sweep/s.yaml", "--list", "--missing"]) == 0
    assert len(capsys.readouterr().out.split()) == 12
    # what the file does not have any more is dropped
    (folder / "configs/sweep/s.yaml").write_text(GRID.replace("[0, 1, 2]}", "[1]}"))
    assert main(["results", "configs/sweep/s.yaml"]) == 0
    assert "results/s.jsonl: 0 runs; 6 are left" in capsys.readouterr().out


def test_a_sweep_from_anywhere_is_published(folder):
    (folder / "own.yaml").write_text(GRID + "title: My own\n")
    assert main(["sweep", "own.yaml", "--serial"]) == 0
    assert main(["results", "own.yaml"]) == 0
    assert "## My own" in (folder / "RESULTS.md").read_text()


def test_records_of_another_sweep_of_the_same_name(folder, capsys):
    """Are not dropped without a word."""
    for name in ("a", "b"):
        Path(name).mkdir()
        Path(name, "s.yaml").write_text(f"config: {name}.yaml")
        Path(f"{name}.yaml").write_text("model: A\n")
    assert main(["sweep", "a/s.yaml", "--serial"]) == main(["results", "a/s.yaml"]) == 0
    before = Path("results/s.jsonl").read_text()
    assert main(["results", "a/s.yaml", "b/s.yaml"]) == 2
    assert "found two files of one name" in capsys.readouterr().err
    assert Path("results/s.jsonl").read_text() == before
    assert main(["results", "b/s.yaml"]) == 0
    assert "0 runs; 1 are left; 1 of trials that b/s.yaml does not have are dropped" in capsys.readouterr().out


@pytest.mark.parametrize("text", ['{"nll": {', "[]"])
def test_torn_metrics_are_named(text, folder, capsys):
    (folder / "s.yaml").write_text("config: a.yaml")
    assert main(["sweep", "s.yaml", "--serial"]) == 0
    (path,) = Path("runs/s").glob("*/version_0/metrics.json")
    path.write_text(text)
    assert main(["results", "s.yaml"]) == 2
    assert f"{path}: found no metrics of a run" in capsys.readouterr().err


def test_a_failure_does_not_replace_what_ended_well(folder):
    (folder / "s.yaml").write_text("config: a.yaml\n")
    assert main(["sweep", "s.yaml", "--serial"]) == 0
    assert main(["results", "s.yaml"]) == 0
    kept = (folder / "results/s.jsonl").read_text()
    (run,) = (folder / "runs/s").glob("a-*/version_0/metrics.json")
    run.unlink()
    (run.parents[1] / "failure.txt").write_text("exit status 1\nno space left\n")
    assert main(["results", "s.yaml"]) == 0
    assert (folder / "results/s.jsonl").read_text() == kept


def test_a_grid_that_failed_has_a_row(folder):
    plan = sweep_of("config: a.yaml\ngrid: {x: [1, 2]}")
    (row,) = sweeps.rows(plan, scored(plan, lambda trial: None))
    assert (row.records, list(row.failures)) == ({}, [0])


@pytest.mark.parametrize("said", ["{two: 1.0}", "{one: high}", "{one: [1.0, x]}"])
def test_a_published_value_is_a_number_of_a_case(said, folder):
    plan = sweep_of("config: a.yaml\ncases: {one: {}}")
    (folder / "p.yaml").write_text(f"s: [{{method: Theirs, source: Somebody, values: {said}}}]")
    with pytest.raises(SweepError, match=r"p.yaml: Theirs has '(one|two)'.*expected a case of s and a number"):
        sweeps.read_published(folder / "p.yaml", plan)


def test_numbers_of_a_row(folder):
    plan = sweep_of("config: a.yaml\nseeds: [0, 1, 2, 3]\ncolumns: {own: extra.value, two: [extra.value, nfe]}")
    integrals = {0: (1.01, 0.003), 1: (0.99, 0.004), 2: (None, 0.5), 3: (None, None)}

    def number(trial):
        value, error = integrals[trial.seed]
        return {
            "nll.mean": 1.0,
            "nll.n": 1000 + trial.seed,
            "split.twin_share": 0.25,
            "nll_without_twins.mean": 2.0,
            "normalisation": value,
            "normalisation_error": error,
            "resolution.radians": 1e-4,
            "nfe": 1234.4,
            "seconds.training.cpu": 20.0,
            "seconds.evaluation.cpu": 3.0,
            "extra.value": 0.125,
        }

    text = sweeps.section(plan, scored(plan, number), {})
    assert "1,000 to 1,003 test points; 25.0 % of them are also training points." in text
    line = re.search(r"\| a \|.*", text).group()
    head = re.search(r"\| method \|.*", text).group()
    found = dict(
        zip((cell.strip() for cell in head.split("|")), (cell.strip() for cell in line.split("|")), strict=True)
    )
    assert found["NLL"] == "1.000 ± 0.000"
    assert found["without twins"] == "2.000 ± 0.000"
    assert found["own"] == "0.125 ± 0.000"
    assert found["two"] == "0.125 ± 0.000 (1234.400 ± 0.000)"
    assert found["smallest scale"] == "1.0e-04 rad"
    assert found["field evaluations"] == "1,234"
    assert found["CPU-s"] == "20 + 3"
    assert found["integral"] == "1.000 ± 0.003 (2 of 4)"  # 0.005 / 2, to the even digit
    assert found["seeds"] == "4"
    assert "gap" not in found


@pytest.mark.parametrize("line", ["{", "[1]", '{"key": 1}', '{"key": "a", "digest": "b", "numbers": {}, "more": 1}'])
def test_a_torn_record_is_named_by_its_line(line, folder):
    good = json.dumps(Record("a", "b", {})._asdict())
    (folder / "r.jsonl").write_text(f"{good}\n\n")
    assert list(sweeps.read(folder / "r.jsonl")) == ["a"]
    (folder / "r.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(SweepError, match=r"r.jsonl:2: no record"):
        sweeps.read(folder / "r.jsonl")


# ---- the sweeps of this repository

SWEEPS = sorted((ROOT / "configs/sweep").glob("*.yaml"))


@pytest.fixture
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_nobody_types_into_the_results(root):
    """If this fails, a sweep, a configuration or a record has changed: `rsgm results` writes the page again."""
    assert (ROOT / "RESULTS.md").read_text() == page()


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_are_read(path, root):
    plan = Sweep.read(path)
    assert path.read_text().startswith("# ")
    assert sweeps.read_published(ROOT / "results/published.yaml", plan).keys() <= set(plan.cases)
    # every record is one of a trial
    assert sweeps.read(ROOT / f"results/{path.stem}.jsonl").keys() <= {trial.key for trial in plan.trials}


def test_published_values_belong_to_sweeps():
    assert yaml.safe_load((ROOT / "results/published.yaml").read_text()).keys() <= {path.stem for path in SWEEPS}


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_command_is_understood(path, root, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(TrainCLI, "instantiate_trainer", lambda self: None)
    # cases of a method with the same keys differ in names and numbers
    kinds = {(trial.config, *trial.overrides, *trial.settings.values()): trial for trial in Sweep.read(path).trials}
    for trial in kinds.values():
        found = TrainCLI([*trial.arguments, f"--seed_everything={trial.seed}"])
        assert found.config["seed_everything"] == trial.seed
        assert found.law.manifold.dim == trial.overrides.get("data.law.dim", found.law.manifold.dim)
