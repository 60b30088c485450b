"""What is said of an argument of the wrong kind."""

import re
from functools import partial
from typing import NamedTuple

import pytest
import torch

from rsgm.arguments import constructor, require_factory, require_instance
from rsgm.losses import ImplicitScoreMatching, Loss
from rsgm.manifolds import Sphere
from rsgm.networks import MLP, LogTime, ResidualMLP, UNet
from rsgm.processes import Brownian
from rsgm.schedules import LinearBeta, Schedule


def test_an_inherited_constructor_is_that_of_the_class():
    class Own:
        def __new__(cls, *args, **kwargs):
            return super().__new__(cls)

        def __init__(self, x: int = 1):
            self.x = x

    class Heir(Own):
        pass

    class Pair(NamedTuple):
        a: int
        b: int

    assert [list(constructor(cls).parameters) for cls in (Own, Heir, Pair)] == [["x"], ["x"], ["a", "b"]]


@pytest.mark.parametrize("factory", [MLP, partial(MLP, hidden=[4]), lambda a, b: MLP(a, b, hidden=[4])])
def test_a_factory_is_handed_back(factory):
    assert require_factory(factory, "RSGM: network", "MLP") is factory


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (MLP(3, 3, hidden=[4]), "an object of the class MLP"),
        (torch.nn.Linear(3, 3), "an object of the class Linear"),
        (Brownian(Sphere(2)), "an object of the class Brownian"),
        ("MLP", "'MLP'"),
        (None, "None"),
    ],
)
def test_what_is_no_factory(value, found):
    sentence = f"RSGM: network is a factory: expected MLP or functools.partial(MLP, ...), found {found}."
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        require_factory(value, "RSGM: network", "MLP")


@pytest.mark.parametrize("make", [partial(MLP, 3, 3), partial(ResidualMLP, 3, 3), partial(UNet, 16, 16)])
def test_networks_name_the_part_and_its_owner(make):
    with pytest.raises(TypeError, match=f"^{make.func.__name__}: time is a factory: expected .*the class LogTime"):
        make(time=LogTime())


@pytest.mark.parametrize(("value", "cls"), [(LinearBeta(), Schedule), (ImplicitScoreMatching(), Loss)])
def test_an_instance_is_handed_back(value, cls):
    assert require_instance(value, cls, "here") is value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (ImplicitScoreMatching, "expected ImplicitScoreMatching(...), found the class ImplicitScoreMatching; call it."),
        (
            partial(ImplicitScoreMatching),
            "expected ImplicitScoreMatching(...), found the factory of ImplicitScoreMatching; call it.",
        ),
        (LinearBeta, "expected an instance of Loss, found the class LinearBeta."),
        (LinearBeta(1.0, 2.0), "expected an instance of Loss, found LinearBeta(beta_0=1.0, beta_1=2.0)."),
        ("ism", "expected an instance of Loss, found 'ism'."),
    ],
)
def test_what_is_no_instance(value, said):
    with pytest.raises(TypeError, match=f"^{re.escape('RSGM: loss is an object: ' + said)}$"):
        require_instance(value, Loss, "RSGM: loss")
