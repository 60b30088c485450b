"""One line for every error that a user can do something about, in every command; a request to report the others."""

import csv
import io
import subprocess
import sys

import pytest
import torch
from omegaconf.errors import InterpolationKeyError
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import rsgm
from rsgm.cli import commands, evaluate_command, main
from rsgm.cli.errors import in_one_line, of_settings
from rsgm.cli.explain import UsageError
from rsgm.likelihood import SolveError
from rsgm.sweeps import SweepError
from tiny import enter, run, without_figures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    return enter(tmp_path, monkeypatch)


def ended(error: BaseException, monkeypatch, debug: str = "") -> int:
    """The status of a command that raises an error."""
    monkeypatch.setenv("RSGM_DEBUG", debug)
    with in_one_line("rsgm test") as failure:
        raise error
    return failure.status


FORESEEN = [
    (UsageError("no such key"), 2, "no such key"),
    (SweepError("no such trial"), 2, "no such trial"),
    (ValueError("of a file"), 1, "of a file"),
    (FileNotFoundError(2, "No such file or directory", "a.csv"), 1, "a.csv: No such file or directory"),
    (OSError(28, "No space left on device"), 1, "No space left on device"),
    (OSError(18, "Invalid cross-device link", "a", None, "b"), 1, "a -> b: Invalid cross-device link"),
    (PermissionError("of its own words"), 1, "of its own words"),
    (csv.Error("field larger than field limit (131072)"), 1, "field larger than field limit (131072)"),
    (MisconfigurationException("no such trainer"), 1, "no such trainer"),
    (OverflowError("too large"), 1, "too large"),
    (ZeroDivisionError("by zero"), 1, "by zero"),
    (NotImplementedError("no density"), 1, "no density"),
    (SolveError("underflow"), 1, "underflow"),
    (ModuleNotFoundError("No module named 'x'"), 1, "No module named 'x'"),
    (MemoryError(), 1, "MemoryError"),
    (torch.OutOfMemoryError("CUDA out of memory\nat csrc"), 1, "CUDA out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes\nat c10"), 1, "can't allocate"),
    (InterpolationKeyError("Interpolation key 'x' not found"), 1, "Interpolation key 'x' not found"),
]


@pytest.mark.parametrize("error, status, words", FORESEEN, ids=[type(case[0]).__name__ for case in FORESEEN])
def test_what_is_foreseen_is_one_line(error, status, words, monkeypatch, capsys):
    assert ended(error, monkeypatch) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rsgm test: ")
    assert words in line
    with pytest.raises(type(error)):
        ended(error, monkeypatch, debug="1")


@pytest.mark.parametrize("error", [TypeError("of ours"), KeyError("of ours"), RuntimeError("of ours"), IndexError()])
def test_a_fault_of_ours_shows_where_and_asks_for_a_report(error, monkeypatch, capsys):
    assert ended(error, monkeypatch) == 1
    *trace, last = capsys.readouterr().err.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert last.startswith("rsgm test: a fault of rsgm, or of a part of your own")
    assert f"torch {torch.__version__.split('+')[0]}" in last
    with pytest.raises(type(error)):
        ended(error, monkeypatch, debug="1")


def test_an_interrupt_passes(monkeypatch):
    for error in (KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            ended(error, monkeypatch)


def test_what_a_constructor_trips_over_is_a_wrong_setting():
    for error in (TypeError("x"), KeyError("x"), AttributeError("x"), RuntimeError("x\nat c10"), AssertionError("x")):
        said = f"^these settings make no model and data: {type(error).__name__}: '?x'?$"
        with pytest.raises(UsageError, match=said), of_settings():
            raise error
    for error in (ValueError("x"), SolveError("x"), OSError("x"), NotImplementedError("x")):
        with pytest.raises(type(error)) as caught, of_settings():
            raise error
        assert caught.value is error


# ---- settings, of a run of the command; what was a traceback once

ALIAS = "model: &a {init_args: *a}"
#: arguments, or the text of a further configuration; the status; a part of the line
SETTINGS = {
    "no size": (["--data.train_size=null"], 2, "train_size must be an integer of at least 1, found None"),
    "no number": (["--data.law.concentration=null"], 2, "concentration: Expected a <class 'float'>"),
    "no yes or no": (["--data.conditional=null"], 2, "data.conditional: found null, expected bool; leave it out"),
    "no yes or no of a model": (
        ["--model=FlowMatching", "--model.stratified=null"],
        2,
        "model.stratified: found null, expected bool; leave it out",
    ),
    "size of 67 bits": (["--data.train_size=99999999999999999999"], 2, "train_size must be at most 2147483647"),
    "no memory": (["--model.network.hidden=[1000000,1000000]"], 2, "can't allocate memory"),
    "no loss": (["--model.loss=null"], 2, "loss is an object: expected an instance of Loss, found None"),
    "no such device": (["--trainer.accelerator=tpu"], 2, "trainer: "),
    "sparse gradients": (["--training.optimizer=torch.optim.SparseAdam"], 1, "no model here has sparse gradients"),
    "no step upwards": (["--training.optimizer.lr=-1"], 1, "Invalid learning rate: -1"),
    "no density": (
        ["--model.manifold.dim=4", "--data.law.dim=4", "--model.loss=DenoisingScoreMatching"],
        1,
        "has no known density here",
    ),
    "a part of a batch": (["--trainer.limit_val_batches=0.001"], 1, "Please increase the `limit_val_batches`"),
    "itself in itself": (ALIAS, 2, "later.yaml: found an alias (*name) inside of what it stands for"),
    "a file for a folder": (["--runs=tiny.yaml"], 1, "tiny.yaml/tiny/version_0 was not written: Not a directory"),
    "no folder there": (["--runs=/proc/x"], 1, "/proc/x/tiny/version_0 was not written: No such file"),
    "a long name": ([f"--name={'x' * 300}"], 1, "File name too long"),
    "out of the runs": (["--name=a/../../b"], 2, "--name is 'a/../../b', expected a name below --runs"),
    "an absolute name": (["--name=/tmp/b"], 2, "--name is '/tmp/b', expected a name below --runs"),
}
SLOW = {
    "no validation size": (["--data.val_size=null"], 2, "val_size must be an integer of at least 1, found None"),
    "no test size": (["--data.test_size=null"], 2, "test_size must be an integer of at least 1, found None"),
    "no dimension": (["--model.manifold.dim=null"], 2, "dim: Expected a <class 'int'>"),
    "batch of 67 bits": (["--data.batch_size=99999999999999999999"], 2, "batch_size must be at most"),
    "test of 67 bits": (["--data.test_size=99999999999999999999"], 2, "test_size must be at most"),
    "dimension below 1": (["--model.manifold.dim=-1"], 2, "dim must be an integer of at least 1, found -1"),
    "another dimension": (["--model.manifold.dim=100000"], 2, "give both the same manifold"),
    "coarse weights": (["--trainer.precision=bf16-true"], 2, "trainer.precision is bf16-true, too coarse"),
    "coarse points": (["--trainer.precision=16-mixed"], 2, "too coarse for points of a curved space"),
    "no accumulation": (["--trainer.accumulate_grad_batches=0"], 2, "accumulate_grad_batches is 0"),
    "validation every 0": (["--trainer.check_val_every_n_epoch=0"], 2, "check_val_every_n_epoch is 0"),
    "validation after 0": (["--trainer.val_check_interval=0"], 2, "val_check_interval is 0"),
    "a part of all": (["--trainer.overfit_batches=0.5"], 1, "Please increase the `limit_val_batches`"),
    "no such moments": (["--training.optimizer.betas=[2,3]"], 1, "Invalid beta parameter"),
    "no such average": (["--training.averaging=2"], 1, "decay must be in [0, 1], found 2.0"),
    "negative size": (["--data.val_size=-1"], 2, "val_size must be an integer of at least 1, found -1"),
    "no such seed": (["--seed_everything=-1"], 1, "-1 is not in bounds"),
    "endless file": (["--data=EarthData", "--data.path=/dev/zero"], 1, "/dev/zero is no regular file"),
    "no table": (["--data=EarthData", "--data.path=tiny.yaml"], 1, "Expected a header"),
}
CASES = [pytest.param(*case, id=name) for name, case in SETTINGS.items()]
CASES += [pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()]


@pytest.mark.parametrize("args, status, words", CASES)
def test_settings(args, status, words, folder, capsys):
    """Refused in one line, and no folder of a run is left."""
    if isinstance(args, str):
        (folder / "later.yaml").write_text(args)
        args = ["--config=later.yaml"]
    assert run(*args) == status
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if not line.startswith(("Seed set to", "GPU available"))]
    assert line.startswith("train.py: ")
    assert words in line
    assert not (folder / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ["--trainer.max_steps=-1", "--trainer.max_time=00:00:00:01"],
        ["--trainer.precision=64-true"],
        ["--trainer.log_every_n_steps=0"],
    ],
)
def test_settings_that_are_all_right(args, folder):
    assert run(*args) == 0


def test_a_fault_in_training_leaves_no_folder_and_is_not_called_a_setting(folder, monkeypatch, capsys):
    monkeypatch.setattr("rsgm.models.RSGM.loss", lambda *_: {}["loss"])
    assert run() == 1
    assert "train.py: a fault of rsgm" in capsys.readouterr().err
    assert not (folder / "runs").exists()


# ---- the other commands


@pytest.mark.parametrize(
    "args, status, words",
    [
        (["evaluate", "--ckpt=x.ckpt"], 1, "No checkpoint at x.ckpt."),
        (["evaluate", "--ckpt=."], 1, "No checkpoint at ."),
        (["evaluate", "--ckpt=x.ckpt", "--device=nowhere"], 2, "--device=nowhere: "),
        (["evaluate", "--ckpt=x.ckpt", "--import=no_such_module"], 1, "No module named 'no_such_module'"),
        (["audit", "--ckpt=x.ckpt", "--out=no/x.json"], 1, "There is no folder no for x.json"),
        (["audit", "--samples=x.csv", "--config=alias.yaml"], 2, "inside of what it stands for"),
        (["audit", "--samples=x.csv", "--config=x.yaml"], 2, "--config: found no file x.yaml"),
        (["configs", "vulcano_rsgm"], 2, "Did you mean volcano_rsgm?"),
        (["sweep", "x.yaml"], 2, "No file at x.yaml."),
        (["results", "x.yaml"], 2, "No file at x.yaml."),
        (["results"], 1, "RESULTS.md was not written: Is a directory"),
        (["runs", "x"], 2, "There is no folder x"),
    ],
)
def test_other_commands(args, status, words, folder, capsys):
    (folder / "alias.yaml").write_text(ALIAS)
    (folder / "RESULTS.md").mkdir()
    assert main(args) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rsgm {args[0]}: ")
    assert words in line


@pytest.mark.parametrize("command", ["train --config=t.csv", "sweep t.csv", "audit --samples=x.csv --config=t.csv"])
def test_a_table_in_the_place_of_settings_is_not_quoted(command, folder, capsys):
    (folder / "t.csv").write_text("lat,lon\n" + "1,2\n" * 1000)
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "t.csv: found " in line
    assert len(line) < 200


def test_help_needs_no_torch(capsys):
    """What lists the commands answers at once, and says of each what its own help says."""
    line = "import sys; from rsgm.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = dict(line.split(maxsplit=2)[1:] for line in done.stdout.splitlines() if line.startswith("  rsgm "))
    for verb, what in shown.items():
        if verb == "train":  # whose help is LightningCLI's
            continue
        with pytest.raises(SystemExit, match=r"^0$"):
            main([verb, "--help"])
        assert " ".join(what.removesuffix(".").split()) in " ".join(capsys.readouterr().out.split())
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rsgm {rsgm.__version__}\n"


def test_what_a_terminal_does_not_know_ends_no_command(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    with in_one_line("rsgm test"):
        print("−5.88 ± .46", flush=True)
    assert shown.buffer.getvalue() == b"?5.88 ? .46\n"


def test_a_disk_that_is_full(folder, monkeypatch, capsys):
    """Whatever command writes."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands.runs, "claim", full)
    assert run() == 1
    monkeypatch.setattr("rsgm.cli.evaluate._answer", full)
    assert evaluate_command(["--ckpt=x"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == ["train.py: No space left on device", "evaluate.py: No space left on device"]
