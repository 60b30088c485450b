"""Objects as plain data and back, and what is refused on the way back."""

import functools
import importlib
import inspect
import json
import sys
import typing
from collections.abc import Sequence
from typing import Any

import geoopt
import pytest
import torch

import rsgm
from conftest import STATE_SPACES, concrete, each
from helpers import model_on
from rsgm.data import ManifoldData
from rsgm.description import build, describe, describe_call
from rsgm.distributions import ManifoldDistribution, RandomRotationMixture
from rsgm.divergence import Divergence
from rsgm.fields import NetworkField
from rsgm.likelihood import ScoreLikelihood
from rsgm.losses import DenoisingScoreMatching, Loss, ScoreTarget, Weighting
from rsgm.manifolds import Euclidean, Manifold, Product, Sphere
from rsgm.models import RSGM, GenerativeModel
from rsgm.networks import MLP, Activation, Network, PositionFeatures, RandomFourier, RawTime, SiLU, Sin, TimeFeatures
from rsgm.processes import (
    Brownian,
    Langevin,
    Prediction,
    Process,
    ProductProcess,
    TimeSampler,
    UniformTime,
    VariancePreserving,
)
from rsgm.samplers import GeodesicEulerMaruyama, Sampler, Start, Stepper
from rsgm.schedules import Ladder, LinearBeta, Schedule, TimeGrid
from rsgm.training import LearningRate

#: what stands by itself in a description: constructed without what a caller supplies
VALUES = [
    Schedule,
    TimeGrid,
    Ladder,
    LearningRate,
    Divergence,
    Manifold,
    TimeSampler,
    Weighting,
    ScoreTarget,
    Loss,
    Stepper,
    Start,
    Sampler,
    Activation,
    TimeFeatures,
    ScoreLikelihood,
    ManifoldData,
]
#: what a model makes from a factory, and the argument that takes it
FACTORIES = {Process: "process", Network: "network", NetworkField: "field", Prediction: "prediction"}


#: where a model lives, if not on the sphere
HOMES = dict.fromkeys(["ExactScore", "FlowMatching", "LatentEBM", "SplineFlow"], Euclidean(2))


def plain(description: Any) -> Any:
    """As a checkpoint or a file returns it."""
    return json.loads(json.dumps(description))


def tidy(description: Any) -> Any:
    """Without empty arguments: a class and a factory without arguments are the same."""
    if isinstance(description, list):
        return [tidy(item) for item in description]
    if not isinstance(description, dict):
        return description
    return {key: tidy(value) for key, value in description.items() if (key, value) != ("init_args", {})}


def unusual(cls: type, skip: int = 0) -> functools.partial:
    """A factory of ``cls`` with arguments that differ from the defaults wherever that is possible.

    Without it a round trip that lost every argument would pass: the defaults would come back.
    """
    hints = {} if cls.__init__ is torch.nn.Module.__init__ else typing.get_type_hints(cls.__init__)
    parameters = list(inspect.signature(cls).parameters.values())[skip:] if hints else []
    values = {}
    for parameter in parameters:
        value = other(parameter.default, hints.get(parameter.name))
        if value is not None:
            values[parameter.name] = value
    return functools.partial(cls, **values)


def other(default: Any, annotation: Any) -> Any:
    """A value of the same type that is not the default; None where there is no telling."""
    if typing.get_origin(annotation) is typing.Literal:
        return next((value for value in typing.get_args(annotation) if value != default), None)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return 0.5 * default + 0.125
    if default is None and int in typing.get_args(annotation):
        return 3
    if default is None and Sequence[Manifold] in typing.get_args(annotation):
        return [Sphere(3)]
    if isinstance(default, (tuple, list)) and all(isinstance(item, int) for item in default):
        return [item + 1 for item in default][:2]
    if isinstance(default, (tuple, list)) and all(isinstance(item, float) for item in default):
        return [0.5 * item + 0.125 for item in default]
    if isinstance(default, tuple):
        return [unusual(type(item))() for item in default]
    factory = typing.get_origin(annotation) is not None
    base = typing.get_args(annotation)[-1] if factory else annotation
    if annotation is ManifoldDistribution:
        # not every law is made of plain numbers, and conditional data need a mixture
        return RandomRotationMixture(components=3)
    if base is geoopt.Manifold:
        return functools.partial(geoopt.EuclideanStiefelExact)
    if not inspect.isclass(base) or not base.__module__.startswith("rsgm"):
        return None
    usual = getattr(default, "func", default) if factory else type(default)
    # a process only for the state space of the usual one
    alike = [cls for cls in concrete(base) if STATE_SPACES.get(cls.__name__) is STATE_SPACES.get(usual.__name__)]
    # and nothing that is made of its own kind, without end
    plain_ones = [cls for cls in alike if not contains(cls, base)]
    choices = [cls for cls in plain_ones if cls is not usual] or plain_ones
    make = unusual(choices[-1], len(typing.get_args(annotation)[0]) if factory else 0)
    return make if factory else make()


def only_one(annotation: Any) -> bool:
    """Whether a single value is admitted."""
    return typing.get_origin(annotation) is typing.Literal and len(typing.get_args(annotation)) == 1


def contains(cls: type, base: type) -> bool:
    """Whether the constructor takes a part of such a kind, or a factory of one."""
    hints = typing.get_type_hints(cls.__init__).values()
    return any(base in (hint, *typing.get_args(hint)) for hint in hints)


def names(description: Any) -> list[str]:
    """All classes in a description."""
    if isinstance(description, list):
        return [name for item in description for name in names(item)]
    if not isinstance(description, dict):
        return []
    own = [description["class_path"]] if "class_path" in description else []
    return own + [name for item in description.values() for name in names(item)]


# ---- round trips


@pytest.mark.parametrize("base, cls", [pytest.param(base, p.values[0], id=p.id) for base in VALUES for p in each(base)])
def test_values(base, cls):
    usual, other_one = describe(cls()), describe(unusual(cls)())
    for description in (usual, other_one):
        again = build(plain(description), base)
        assert type(again) is cls
        assert describe(again) == plain(description) == description
    arguments = {name for name, value in usual["init_args"].items() if value is not None and not isinstance(value, str)}
    arguments -= {name for name, hint in typing.get_type_hints(cls.__init__).items() if only_one(hint)}
    assert all(usual["init_args"][name] != other_one["init_args"][name] for name in arguments)


@pytest.mark.parametrize(
    "base, cls", [pytest.param(base, p.values[0], id=p.id) for base in FACTORIES for p in each(base)]
)
def test_factories(base, cls):
    """Through the model that calls them."""
    skip = {Process: 1, Network: 2, NetworkField: 2, Prediction: 2}[base]
    make = unusual(cls, skip)
    flat = {"process": VariancePreserving} if cls.__name__ in STATE_SPACES else {}
    model = RSGM(STATE_SPACES.get(cls.__name__, Sphere(2)), **{**flat, FACTORIES[base]: make})
    description = plain(model.description)
    again = build(description, GenerativeModel)
    assert tidy(again.description) == tidy(model.description)
    (part,) = [module for module in again.modules() if type(module) is cls]
    (made,) = [module for module in model.modules() if type(module) is cls]
    assert [p.shape for p in part.parameters()] == [p.shape for p in made.parameters()]
    # of the finished part the same, without what the caller supplied
    assert describe(part, skip) == describe(made, skip)
    found = describe(made, skip)["init_args"]
    for name, value in describe(make)["init_args"].items():
        assert found[name] == value, name


def test_factories_in_a_list():
    """Each is written without what the product supplies, and comes back in its place."""
    factors = [functools.partial(Langevin, scale=0.25), functools.partial(Langevin, scale=2.0, steps=7)]
    process = functools.partial(ProductProcess, factors=factors)
    model = RSGM(Product([Sphere(2), Euclidean(1)]), process=process)
    again = build(plain(model.description), GenerativeModel)
    for found in (again, build(plain(again.description), GenerativeModel)):
        assert [(f.scale, f.steps) for f in found.process.factors] == [(0.25, 100), (2.0, 7)]
    made = describe(model.process, 1)["init_args"]["factors"]
    assert [set(item["init_args"]) for item in made] == [{"scale", "steps"}] * 2


@pytest.mark.parametrize("cls", each(PositionFeatures))
def test_position_features(cls):
    make = unusual(cls, 1)
    network = MLP(3, 3, hidden=[4], position=make)
    described = describe(network, 2)["init_args"]["position"]
    assert described["class_path"].endswith(cls.__name__)
    for name, value in describe(make)["init_args"].items():
        assert described["init_args"][name] == value
    again = build(plain(describe(network)), Network)
    assert describe(again) == describe(network)


@pytest.mark.parametrize("cls", each(GenerativeModel))
def test_models(cls):
    model = model_on(unusual(cls, 1), HOMES.get(cls.__name__, Sphere(2)))
    again = build(plain(model.description), GenerativeModel)
    assert type(again) is cls
    assert tidy(again.description) == tidy(model.description)
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    # everything that can be chosen is in it
    assert set(model.description["init_args"]) == set(inspect.signature(cls).parameters)


def test_arguments_survive():
    """The values, not only the descriptions."""
    model = RSGM(
        Sphere(3),
        process=functools.partial(Brownian, schedule=LinearBeta(beta_1=7.0), eps=0.01),
        network=functools.partial(
            MLP, hidden=(5, 6), activation=SiLU, position=functools.partial(RandomFourier, count=4, seed=3)
        ),
        loss=DenoisingScoreMatching(time=UniformTime(stratified=True)),
    )
    again = build(plain(model.description), GenerativeModel)
    assert again.manifold.dim == 3
    assert (again.process.schedule, again.process.eps) == (LinearBeta(beta_1=7.0), 0.01)
    network = again.score.field.network
    assert network.hidden == [5, 6]
    assert isinstance(network.activation, SiLU)
    assert (network.position.count, network.position.seed) == (4, 3)
    assert torch.equal(network.position.weight, model.score.field.network.position.weight)
    assert again.objective.time == UniformTime(stratified=True)


def test_plain_values():
    for value in (None, True, 3, 0.5, "text", [1, [2.0, "x"]], {"a": [1]}):
        assert describe(value) == value
    assert describe((1, 2)) == [1, 2]
    assert describe(Sphere) == {"class_path": "rsgm.manifolds.sphere.Sphere"}
    assert describe(functools.partial(Sphere, dim=4)) == {
        "class_path": "rsgm.manifolds.sphere.Sphere",
        "init_args": {"dim": 4},
    }
    assert describe_call(LinearBeta, (0.5,), {}) == describe(LinearBeta(0.5))
    assert describe(RawTime()) == {"class_path": "rsgm.networks.features.RawTime", "init_args": {}}


def test_descriptions_name_no_private_modules():
    """What a checkpoint names today must be there tomorrow."""
    for name in names(RSGM(Sphere(2), network=functools.partial(MLP, hidden=[4], activation=Sin)).description):
        assert not any(part.startswith("_") for part in name.split("."))


# ---- what cannot be described


class Forgetful:
    def __init__(self, size: int) -> None:
        self.length = size


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda x: x, r"lambda.* cannot be written into a checkpoint; pass a class or functools.partial"),
        (functools.partial(max, key=len), r"cannot be written into a checkpoint"),
        (functools.partial(LinearBeta, 0.5), r"cannot be written into a checkpoint"),
        (Forgetful(3), r"Forgetful does not keep its constructor argument 'size'.*set self.size in __init__"),
        ([Forgetful(3)], r"Forgetful does not keep its constructor argument 'size'"),
    ],
)
def test_not_describable(value, message):
    with pytest.raises(TypeError, match=message):
        describe(value)


# ---- what is refused


@pytest.mark.parametrize(
    "path, message",
    [
        ("os.system", r"'os.system', which is not a class admitted here \(expected Schedule\)"),
        ("builtins.eval", "not a class admitted here"),
        ("subprocess.Popen", "not a class admitted here"),
        ("rsgm.manifolds.sphere.Sphere", "not a class admitted here"),
        ("rsgm.schedules.NoSuchBeta", "not a class admitted here"),
        ("rsgm.arguments.require_count", "not a class admitted here"),
        ("rsgm.schedules.math", "not a class admitted here"),
        ("LinearBeta", "module '' is not imported"),
        ("", "module '' is not imported"),
        (None, "is not imported"),
        (3, "is not imported"),
        ("rsgm.schedules.LinearBeta.beta", "module 'rsgm.schedules.LinearBeta' is not imported"),
    ],
)
def test_classes_that_are_not_admitted(path, message, monkeypatch):
    import subprocess

    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *_, **__: pytest.fail("called"))
    for description, where in (
        ({"class_path": path}, "Schedule"),
        # and as deep as they come
        (
            {"class_path": "rsgm.samplers.ReverseDiffusion", "init_args": {"grid": {"class_path": path}}},
            "ReverseDiffusion.grid",
        ),
    ):
        base = Schedule if where == "Schedule" else Sampler
        with pytest.raises(ValueError, match=message.replace("Schedule", r"[\w ]+")) as caught:
            build(description, base)
        assert str(caught.value).startswith(f"{where} names ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["antigravity", "this", "turtledemo.clock", "no_such_module"])
def test_nothing_is_imported(module):
    assert module not in sys.modules
    before = set(sys.modules)
    with pytest.raises(ValueError, match=f"names '{module}.Class', but the module '{module}' is not imported"):
        build({"class_path": f"{module}.Class", "init_args": {}}, Schedule)
    nested = {"class_path": "rsgm.models.rsgm.RSGM", "init_args": {"manifold": {"class_path": f"{module}.Class"}}}
    with pytest.raises(ValueError, match=f"RSGM.manifold names '{module}.Class', but the module"):
        build(nested, GenerativeModel)
    assert set(sys.modules) == before


def test_a_name_that_the_package_has_not_loaded_yet(monkeypatch):
    """As in a new process, which reads what the command line wrote."""
    monkeypatch.delitem(vars(rsgm), "Sphere", raising=False)
    assert build({"class_path": "rsgm.Sphere", "init_args": {"dim": 3}}, Manifold).dim == 3
    with pytest.raises(ValueError, match=r"'rsgm.NoSuchSphere', which is not a class admitted here"):
        build({"class_path": "rsgm.NoSuchSphere"}, Manifold)


def test_unknown_arguments():
    with pytest.raises(ValueError, match=r"LinearBeta has no argument 'beta_2'; it knows beta_0, beta_1"):
        build({"class_path": "rsgm.schedules.LinearBeta", "init_args": {"beta_2": 1.0}}, Schedule)
    with pytest.raises(ValueError, match=r"RawTime has no argument 'offset'; it knows none"):
        build({"class_path": "rsgm.networks.RawTime", "init_args": {"offset": 1.0}}, TimeFeatures)


def test_a_class_in_the_wrong_place_is_not_constructed():
    built = []

    class Loud(Schedule):
        beta = integral = inverse = lambda self, t: t

        def __init__(self) -> None:
            built.append(self)

    sys.modules[__name__].Loud = Loud
    try:
        good = {"class_path": f"{__name__}.Loud"}
        assert isinstance(build(good, Schedule), Loud)
        assert len(built) == 1
        description = {
            "class_path": "rsgm.models.rsgm.RSGM",
            "init_args": {"manifold": {"class_path": "rsgm.manifolds.sphere.Sphere"}, "sampler": good},
        }
        with pytest.raises(ValueError, match=r"RSGM.sampler names .*Loud', which is not a class admitted here"):
            build(description, GenerativeModel)
        assert len(built) == 1
    finally:
        del sys.modules[__name__].Loud


def test_parts_from_elsewhere(tmp_path, monkeypatch):
    """A class from outside the package is admitted once its module is imported, and only then."""
    (tmp_path / "my_parts.py").write_text(
        "from dataclasses import dataclass\n"
        "from rsgm.losses import Weighting\n\n"
        "@dataclass(frozen=True)\n"
        "class Flat(Weighting):\n"
        "    height: float = 1.0\n"
        "    def __call__(self, process, t):\n"
        "        return t.new_full(t.shape, self.height)\n"
    )
    description = {
        "class_path": "rsgm.losses.ImplicitScoreMatching",
        "init_args": {"weighting": {"class_path": "my_parts.Flat", "init_args": {"height": 2.0}}},
    }
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"'my_parts' is not imported; import it before loading, if you trust it .*--import"
    ):
        build(description, Loss)
    assert "my_parts" not in sys.modules
    try:
        my_parts = importlib.import_module("my_parts")
        loss = build(description, Loss)
        assert loss.weighting == my_parts.Flat(2.0)
        assert describe(loss.weighting) == description["init_args"]["weighting"]
    finally:
        del sys.modules["my_parts"]


def test_a_stepper_is_not_a_sampler():
    """Admitted is what the annotation says, not what the package offers."""
    stepper = describe(GeodesicEulerMaruyama(0.5))
    assert build(stepper, Stepper) == GeodesicEulerMaruyama(0.5)
    with pytest.raises(ValueError, match=r"expected Sampler"):
        build(stepper, Sampler)
