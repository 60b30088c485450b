"""`rsgm runs`: which folders are runs, in which order, and what is shown of them."""

import csv
import io
import json
import os

import pytest

from rsgm.cli import main


def scored(folder, nll, kde=1.5, name="metrics.json", **more):
    """A folder with a run that was scored."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").touch()
    metrics = {
        "model": "rsgm.models.rsgm.RSGM",
        "data": {"name": "volcano"},
        "split": {"protocol": "random"},
        "seed": 3,
        "steps": 1500,
        "nll": {"mean": nll, "standard_error": 0.25},
        "baselines": {"kernel_density": kde if kde is None else {"nll": {"mean": kde}}},
        "normalisation": 0.99987,
        "seconds": {"training": {"cpu": 35.124}},
    }
    (folder / name).write_text(json.dumps(metrics | more))


@pytest.fixture
def folder(tmp_path):
    scored(tmp_path / "a/version_2", -1.25)
    scored(tmp_path / "a/version_10", -2.5, kde=None)
    scored(tmp_path / "deep/er/b/version_0", 0.75, seed=7)
    for name in ("a/version_11", "c/version_0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "last.ckpt").touch()
    (tmp_path / "a/version_2/figures").mkdir()
    return tmp_path


def lines(capsys, *args):
    assert main(["runs", *map(str, args)]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_line_for_each_run(folder, capsys):
    """Versions in the order of their numbers; those without metrics are marked, and values that are not there empty."""
    head, *rows = lines(capsys, folder)
    assert " ".join(head) == "run model data split seed steps test NLL ± s.e. kernels Z CPU-s"
    assert rows == [
        ["a/version_2", "RSGM", "volcano", "random", "3", "1500", "-1.25", "0.25", "1.5", "0.99987", "35.124"],
        ["a/version_10", "RSGM", "volcano", "random", "3", "1500", "-2.5", "0.25", "0.99987", "35.124"],
        ["a/version_11", "unfinished"],
        ["c/version_0", "unfinished"],
        ["deep/er/b/version_0", "RSGM", "volcano", "random", "7", "1500", "0.75", "0.25", "1.5", "0.99987", "35.124"],
    ]
    # a run's own folder is a table of one
    assert [row[0] for row in lines(capsys, folder / "c/version_0")] == ["run", "."]


def test_the_last_evaluation_counts(folder, capsys):
    scored(folder / "a/version_2", -9.0, name="metrics_1.json")
    os.utime(folder / "a/version_2/metrics.json", (1, 1))
    assert lines(capsys, folder, "--columns", "nll.mean")[1] == ["a/version_2", "-9"]


def test_sorted_by_any_number(folder, capsys):
    """What has none comes last, in its former order."""
    names = [row[0] for row in lines(capsys, folder, "--sort", "nll.mean")[1:]]
    assert names == ["a/version_10", "a/version_2", "deep/er/b/version_0", "a/version_11", "c/version_0"]
    names = [row[0] for row in lines(capsys, folder, "--sort", "baselines.kernel_density.nll.mean")[1:]]
    assert names == ["a/version_2", "deep/er/b/version_0", "a/version_10", "a/version_11", "c/version_0"]
    assert [row[1] for row in lines(capsys, folder, "--sort", "data.name", "--columns", "seed")[1:4]] == ["3", "3", "7"]


def test_csv_has_all_digits(folder, capsys):
    scored(folder / "a/version_2", -1.2345678901234567)
    assert main(["runs", str(folder), "--csv", "--columns", "nll.mean", "data.name"]) == 0
    head, first, _, third, *_ = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["run", "finished", "nll.mean", "data.name"]
    assert first == ["a/version_2", "True", "-1.2345678901234567", "volcano"]
    assert third == ["a/version_11", "False", "", ""]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--sort", "nll.men"], "No run's metrics.json has nll.men; found nll.mean"),
        (["--columns", "seed", "cpu"], "No run's metrics.json has cpu; found"),
        (["--columns", "xyz"], "has xyz; found none like it"),
    ],
)
def test_a_key_that_no_run_has_is_answered_with_the_nearest(args, said, folder, capsys):
    assert main(["runs", str(folder), *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rsgm runs: ")
    assert said in error


def test_folders_without_runs_and_torn_metrics(folder, capsys):
    (folder / "empty").mkdir()
    (folder / "a/version_10/metrics.json").write_text('{"nll": ')
    for name, said in (("nowhere", "There is no folder"), ("empty", "holds no run"), ("a", "holds no metrics")):
        assert main(["runs", str(folder / name)]) == 2
        assert said in capsys.readouterr().err
