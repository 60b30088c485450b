"""The plain form of an object, ``{class_path, init_args}``: written into checkpoints, read back without pickle."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rsgm.annotations import admits, classes, in_words, item_annotation
from rsgm.arguments import constructor

_PLAIN = (bool, int, float, str)
#: parts within parts; a model of the package has six
_DEEPEST = 24
#: characters of a value in an error
_SHOWN = 60


def describe(value: Any, skip: int = 0) -> Any:
    """The plain form of a value: numbers, strings, lists, dicts, and ``{class_path, init_args}`` for the rest.

    An object is described by its constructor arguments, which it must keep as attributes of the same name (the
    convention of scikit-learn). Where an argument is a factory (``Callable[[A, B], C]``) the attribute may be the
    finished C, whose first two constructor arguments are then left out; classes and `functools.partial` stand for
    themselves.

    Arguments:
        value: what to describe
        skip: number of leading constructor arguments that a caller supplies

    Raises:
        TypeError: for functions, and for objects that do not keep their arguments

    Example:
        >>> from rsgm.schedules import LinearBeta
        >>> describe(LinearBeta(beta_1=3.0))
        {'class_path': 'rsgm.schedules.rates.LinearBeta', 'init_args': {'beta_0': 0.001, 'beta_1': 3.0}}
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item, skip) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, type):
        return {"class_path": _path(value)}
    if isinstance(value, functools.partial) and isinstance(value.func, type) and not value.args:
        return {"class_path": _path(value.func), "init_args": describe(value.keywords)}
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        raise TypeError(
            f"{value!r} cannot be written into a checkpoint; pass a class or functools.partial(Class, key=value)."
        )
    cls = type(value)
    names = list(_parameters(cls))[skip:]
    missing = [name for name in names if name not in dir(value)]
    if missing:
        raise TypeError(
            f"{_path(cls)} does not keep its constructor argument {missing[0]!r} as an attribute of that name, so a "
            f"checkpoint could not rebuild it; set self.{missing[0]} in __init__."
        )
    hints = _hints(cls)
    arguments = {name: describe(getattr(value, name), _supplied(hints.get(name))) for name in names}
    return {"class_path": _path(cls), "init_args": arguments}


def describe_call(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The plain form of ``cls(*args, **kwargs)``, with the defaults filled in."""
    bound = constructor(cls).bind(*args, **kwargs)
    bound.apply_defaults()
    return {
        "class_path": _path(cls),
        "init_args": {key: describe(item) for key, item in bound.arguments.items()},
    }


def build(description: dict[str, Any], base: type, most: int = 10**6) -> Any:
    """The object that a description names, if every class in it is one that the annotations admit.

    No module is imported and nothing is called before it is known to be a class derived from the annotated one, so
    a description from a file can only construct what the package, or code that the caller has imported, offers. Plain
    values are those that the annotations admit, and whole numbers, seeds apart, have a bound: most of them are sizes.

    Arguments:
        description: ``{class_path, init_args}``
        base: the class of the object
        most: the largest whole number

    Raises:
        ValueError: for a class that is unknown, not imported or not admitted, for unknown arguments, for values that
            are not admitted, and for what a constructor does not make an object of
    """
    return _Builder(most).make(description, base)


class _Builder:
    """Builds what a description names; see `build`."""

    def __init__(self, most: int) -> None:
        self.most = most

    def make(self, description: dict[str, Any], base: type) -> Any:
        return _called(self.construct(description, (base,), base.__name__, _DEEPEST), base.__name__)

    def construct(self, description: Any, admitted: tuple[type, ...], where: str, depth: int) -> Callable[..., Any]:
        if depth < 0:
            raise ValueError(f"{where} is nested more than {_DEEPEST} parts deep.")
        if not isinstance(description, dict) or not isinstance(description.get("init_args") or {}, dict):
            raise ValueError(f"{where}: expected class_path and init_args by name, found {_shown(description)}.")
        cls = _resolve(description.get("class_path"), admitted, where)
        arguments = description.get("init_args") or {}
        known, hints = _parameters(cls), _hints(cls)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
        for name in arguments:
            if name not in known and not open_ended:
                raise ValueError(f"{_path(cls)} has no argument {name!r}; it knows {', '.join(known) or 'none'}.")
        values = {
            name: self.value(item, hints.get(name, Any), f"{cls.__name__}.{name}", depth)
            for name, item in arguments.items()
        }
        return functools.partial(cls, **values)

    def value(self, value: Any, annotation: Any, where: str, depth: int) -> Any:
        if isinstance(value, dict) and "class_path" in value:
            results, factories = classes(annotation)
            make = self.construct(value, results + factories, where, depth - 1)
            whole = issubclass(make.func, factories) and not issubclass(make.func, results)
            return make if whole else _called(make, where)
        if isinstance(value, (list, dict)):
            inner = item_annotation(annotation, type(value))
            if inner is None or depth < 0:
                raise _not_admitted(value, annotation, where)
            if isinstance(value, list):
                return [self.value(item, inner, where, depth - 1) for item in value]
            return {str(key): self.value(item, inner, where, depth - 1) for key, item in value.items()}
        if not admits(annotation, value):
            raise _not_admitted(value, annotation, where)
        if type(value) is int and abs(value) > self.most and not where.endswith(".seed"):
            raise ValueError(f"{where} is {value}, more than {self.most}, the bound for this file.")
        return value


def _called(make: Callable[..., Any], where: str) -> Any:
    try:
        return make()
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"{where} cannot be made: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def _not_admitted(value: Any, annotation: Any, where: str) -> ValueError:
    return ValueError(f"{where}: expected {in_words(annotation)}, found {_shown(value)}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _supplied(annotation: Any) -> int:
    """How many leading arguments the caller of an annotated factory supplies."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is collections.abc.Callable:
        return len(arguments[0])
    return max(map(_supplied, arguments), default=0)


def _parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters; none where a module inherits ``nn.Module.__init__(*args, **kwargs)``."""
    inherited = inspect.getattr_static(cls, "__init__") is nn.Module.__init__
    return {} if inherited else constructor(cls).parameters


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls.__init__)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _resolve(path: Any, admitted: tuple[type, ...], where: str) -> type:
    wanted = " or ".join(c.__name__ for c in admitted) or "no class"
    module, _, name = str(path).rpartition(".")
    if module not in sys.modules:
        raise ValueError(
            f"{where} names {path!r}, but the module {module!r} is not imported; import it before loading, if you "
            f"trust it (evaluate.py: --import {module})."
        )
    home = sys.modules[module]
    # a name of this package may not be loaded yet; of other modules nothing is run
    cls = getattr(home, name, None) if module == "rsgm" else vars(home).get(name)
    if not isinstance(cls, type) or not issubclass(cls, admitted):
        raise ValueError(f"{where} names {path!r}, which is not a class admitted here (expected {wanted}).")
    return cls
