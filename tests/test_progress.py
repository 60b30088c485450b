"""Signs of life: who sees them, and when."""

import time
from functools import partial

import pytest
import torch

from helpers import NoScore
from rsgm import RSGM, Euclidean, LawData, Sphere, progress
from rsgm.evaluation import score
from rsgm.networks import MLP
from rsgm.processes import VarianceExploding
from rsgm.progress import bar, each, patience, say, visible
from rsgm.samplers import AnnealedLangevin, LangevinDynamics, ReverseDiffusion
from rsgm.schedules import GridLadder


@pytest.fixture
def impatient(monkeypatch):
    """A bar at once, in the place of one after two seconds."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)


def test_nothing_is_said_outside_of_a_visible_block(impatient, capsys):
    say("one")
    assert list(each("abc", 3, "letters", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    with visible():
        say("two")
        assert list(each("abc", 3, "letters", "letters")) == ["a", "b", "c"]
    found = capsys.readouterr().err
    assert found.startswith("two\n")
    assert "letters" in found
    say("three")
    assert capsys.readouterr().err == ""


def test_more_than_was_said_ends_at_the_total(impatient, capsys):
    """As where the last part of a work is larger than what is left."""
    with visible(), bar("work", 100) as shown:
        for _ in range(3):
            shown.update(60)
            shown.refresh()
    assert "100/100 points" in capsys.readouterr().err


def test_what_cannot_say_how_far_it_is_says_what_it_does(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)
    with patience("quick"):
        pass
    with patience("slow"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "slow\n"


@pytest.mark.parametrize(
    "sampler",
    [ReverseDiffusion(steps=3), LangevinDynamics(steps=3), AnnealedLangevin(GridLadder(3), steps=1)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_every_sampler_shows_how_far_it_is(sampler, impatient, capsys):
    with visible():
        sampler(NoScore(VarianceExploding(Euclidean(2))), 4, generator=torch.Generator().manual_seed(0))
    assert "samples:" in capsys.readouterr().err


def test_the_stages_of_an_evaluation(capsys):
    data = LawData(train_size=20, val_size=10, test_size=12)
    data.setup()
    model = RSGM(Sphere(2), network=partial(MLP, hidden=[4]))
    score(model, data, samples=10)
    assert capsys.readouterr().err == ""
    with visible():
        score(model, data, samples=10)
    stages = [line for line in capsys.readouterr().err.splitlines() if "/6 " in line]
    assert stages[0] == "1/6 likelihood of 12 test points"
    assert [stage[:4] for stage in stages] == ["1/6 ", "2/6 ", "3/6 ", "4/6 ", "5/6 "]
