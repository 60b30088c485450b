"""What constructors have by default cannot be changed, and no two networks or models share a module."""

import collections.abc
import dataclasses
import enum
import functools
import importlib
import inspect
import sys
import typing
from pathlib import Path

import pytest
import torch
from torch import nn

import rsgm
from conftest import STATE_SPACES, concrete, each, import_everything, variants
from helpers import model_on
from rsgm.distributions import ManifoldDistribution
from rsgm.manifolds import Euclidean, Sphere
from rsgm.models import RSGM, GenerativeModel
from rsgm.networks import MLP, Activation, LogSNR, LogTime, Network, ResidualMLP, SiLU
from rsgm.processes import VariancePreserving
from rsgm.training import Training


def is_value(thing: object) -> bool:
    """Whether nothing that is done with a thing can change it."""
    if isinstance(thing, (tuple, frozenset)):
        return all(map(is_value, thing))
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        # beside its fields it may have a private cache of what follows from them
        kept = [value for name, value in vars(thing).items() if not name.startswith("_")]
        return type(thing).__dataclass_params__.frozen and all(map(is_value, kept))
    plain = (type(None), bool, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, type)
    return isinstance(thing, plain) or inspect.isroutine(thing)


def our_classes() -> list[type]:
    import_everything()
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "rsgm"]
    found = {thing: None for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    return [cls for cls in found if cls.__module__.split(".")[0] == "rsgm"]


def our_functions() -> list[tuple[str, collections.abc.Callable]]:
    """Every function and method, private ones too."""
    found = [(cls.__qualname__, thing) for cls in our_classes() for thing in vars(cls).values()]
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "rsgm"]
    found += [(module.__name__, thing) for module in modules for thing in vars(module).values()]
    plain = [(where, getattr(thing, "__func__", thing)) for where, thing in found]
    return [(where, thing) for where, thing in plain if inspect.isfunction(thing) and "rsgm" in thing.__module__]


def strategies() -> list[type]:
    """The classes of all that a constructor takes and that is neither a module nor a law."""

    def admitted(annotation: object) -> list[type]:
        if isinstance(annotation, type) and typing.get_origin(annotation) is None:
            return [annotation]
        return [cls for part in typing.get_args(annotation) for cls in admitted(part) if not isinstance(part, list)]

    bases, todo = set(), [GenerativeModel, Network, Training, *concrete(GenerativeModel)]
    while todo:
        cls = todo.pop()
        for annotation in typing.get_type_hints(cls.__init__).values():
            new = [c for c in admitted(annotation) if c.__module__.split(".")[0] == "rsgm" and c not in bases]
            bases.update(new)
            todo += [found for base in new for found in concrete(base)]
    return [base for base in bases if not issubclass(base, (nn.Module, ManifoldDistribution))]


def found_strategies() -> list:
    return [parameter for base in sorted(strategies(), key=lambda c: c.__name__) for parameter in variants(base)]


def test_values_are_told_from_others():
    """Or else no test of this file could fail."""

    @dataclasses.dataclass(frozen=True)
    class Box:
        inside: object

    assert all(map(is_value, [None, 1, "a", (1, (2.0,)), dict, len, Box((1, Box("b"))), torch.float64]))
    changeable = [[], {}, set(), nn.SiLU(), torch.ones(1), functools.partial(dict), ([],), Box([]), Box(nn.SiLU())]
    assert not any(map(is_value, changeable))


def test_every_default_is_a_value():
    """Of every function, method and constructor: one that could be changed would change for all later calls."""
    functions = our_functions()
    assert {"MLP", "RSGM", "ODESolver", "rsgm.likelihood"} <= {where for where, _ in functions}
    for where, function in functions:
        for parameter in inspect.signature(function).parameters.values():
            # a dataclass marks what a factory makes anew
            anew = type(parameter.default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS"
            if parameter.default is not inspect.Parameter.empty and not anew:
                assert is_value(parameter.default), f"{where}.{function.__name__}: {parameter}"


def test_strategies_are_found():
    names = {base.__name__ for base in strategies()}
    assert names >= {"Loss", "Sampler", "Schedule", "ScoreLikelihood", "TimeSampler", "Weighting", "ScoreTarget"}
    assert names >= {"Divergence", "LearningRate", "Stepper", "TimeGrid", "LangevinChain", "ImportanceSampling"}


@pytest.mark.parametrize("make", found_strategies())
def test_strategies_are_values(make):
    """Equal arguments make equal ones, and nothing can be assigned, neither a known attribute nor a new one."""
    strategy = make()
    assert is_value(strategy)
    assert strategy == make()
    assert hash(strategy) == hash(make())
    for name in [*(field.name for field in dataclasses.fields(strategy)), "of_a_new_name"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, name, 1)


def test_a_model_s_settings_are_not_those_of_the_next():
    model = RSGM(Sphere(2), network=functools.partial(MLP, hidden=[4]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.log_density.tolerance = 0.1
    assert RSGM(Sphere(2), network=functools.partial(MLP, hidden=[4])).log_density.tolerance == 1e-5


def test_ruff_looks_at_defaults_and_knows_frozen_values_only():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    ruff = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert {"B", "RUF"} <= set(ruff["select"])
    assert not {"B006", "B008", "RUF008", "RUF009"} & set(ruff["ignore"])
    for path in ruff["flake8-bugbear"]["extend-immutable-calls"]:
        module, _, name = path.rpartition(".")
        assert is_value(getattr(importlib.import_module(module), name)()), path


def modules_of(model: nn.Module) -> set[int]:
    return {id(module) for module in model.modules()}


@pytest.mark.parametrize("cls", each(Network))
@pytest.mark.parametrize("build", ["class", "partial"])
def test_networks_share_no_module(cls, build):
    """Neither by the defaults, nor where one factory makes both."""
    size = STATE_SPACES[cls.__name__].dim if cls.__name__ in STATE_SPACES else 3
    known = inspect.signature(cls).parameters
    given = {"time": functools.partial(LogTime, 1e-2), "activation": SiLU}
    options = {name: value for name, value in given.items() if name in known} if build == "partial" else {}
    make = functools.partial(cls, **options)
    one, other = make(size, size), make(size, size)
    assert not modules_of(one) & modules_of(other)
    assert not {p.data_ptr() for p in one.state_dict().values()} & {p.data_ptr() for p in other.state_dict().values()}


@pytest.mark.parametrize("cls", each(GenerativeModel))
def test_models_share_no_module(cls):
    """But for what the caller gave to both."""
    home = Euclidean(2) if cls.__name__ in {"ExactScore", "LatentEBM", "SplineFlow"} else Sphere(2)
    one, other = model_on(cls, home), model_on(cls, home)
    assert modules_of(one) & modules_of(other) <= modules_of(home)


def test_two_models_stay_independent():
    """Converting, moving and switching one leaves the other, and those made later, as they are."""

    def make() -> RSGM:
        return RSGM(Euclidean(2), VariancePreserving, functools.partial(ResidualMLP, width=4, time=LogSNR))

    one, other, x = make(), make(), torch.randn(5, 2)
    one.double().eval()
    for model in (other, make()):
        assert all(module.training for module in model.modules())
        assert model.loss(x)["loss"].dtype == torch.float32
    one.to("meta")
    for model in (other, make()):
        assert model.loss(x)["loss"].isfinite().all()


@pytest.mark.parametrize("part", ["activation", "time", "position"])
def test_a_module_in_the_place_of_its_factory_is_refused(part):
    made = {"activation": SiLU(), "time": LogTime(), "position": rsgm.networks.Coordinates(3)}[part]
    with pytest.raises(
        TypeError, match=f"{part} is a factory: expected .*an object of the class {type(made).__name__}"
    ):
        MLP(3, 3, **{part: made})


def test_activations_are_found():
    assert len(concrete(Activation)) >= 2
