"""One line for an argument that is wrong: an object in the place of its factory, a number that is no size."""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import Any, TypeVar

from torch import nn

from rsgm.annotations import options

T = TypeVar("T")
#: beyond which a size times the length of a row is no integer of 64 bits
_MOST = 2**31 - 1


def constructor(cls: type) -> inspect.Signature:
    """What a class is called with.

    To `inspect.signature` of some versions of Python, 3.11.2 among them, an inherited ``__new__`` goes before an
    inherited ``__init__``: a model that leaves its constructor to another would be one of ``*args``.
    """
    init = inspect.getattr_static(cls, "__init__")
    if not inspect.isfunction(init):  # a NamedTuple has no other than object's
        return inspect.signature(cls)
    signature = inspect.signature(init)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def require_factory(value: Callable[..., T], where: str, example: str) -> Callable[..., T]:
    """The factory itself, where it is one: a class, a `functools.partial` of one, or a function.

    A module is refused although it can be called: its call evaluates it and makes nothing. Made by its owner, a
    module is of that owner alone; one module in two models would move, convert and switch mode with both.

    Arguments:
        value: the argument as it was given
        where: owner and name of the argument, for the error
        example: the name of a class that fits, for the error

    Raises:
        TypeError: for a module, and for what cannot be called

    Example:
        >>> require_factory(3, "RSGM: network", "MLP")
        Traceback (most recent call last):
        ...
        TypeError: RSGM: network is a factory: expected MLP or functools.partial(MLP, ...), found 3.
    """
    if callable(value) and not isinstance(value, nn.Module):
        return value
    # a network prints on many lines
    found = f"an object of the class {type(value).__name__}" if isinstance(value, nn.Module) else repr(value)
    raise TypeError(f"{where} is a factory: expected {example} or functools.partial({example}, ...), found {found}.")


def require_instance(value: T, cls: type[T], where: str) -> T:
    """The object itself, where it is one of a class.

    Arguments:
        value: the argument as it was given
        cls: the class whose objects fit
        where: owner and name of the argument, for the error

    Raises:
        TypeError: for another object, a class, or a factory

    Example:
        >>> from rsgm.schedules import LinearBeta, Schedule
        >>> require_instance(LinearBeta, Schedule, "Brownian: schedule")
        Traceback (most recent call last):
        ...
        TypeError: Brownian: schedule is an object: expected LinearBeta(...), found the class LinearBeta; call it.
    """
    if isinstance(value, cls):
        return value
    made: Any = value.func if isinstance(value, functools.partial) else value
    if isinstance(made, type) and issubclass(made, cls):
        kind = "class" if made is value else "factory of"
        raise TypeError(
            f"{where} is an object: expected {made.__name__}(...), found the {kind} {made.__name__}; call it."
        )
    found = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    raise TypeError(f"{where} is an object: expected an instance of {cls.__name__}, found {found}.")


def check_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], skip: Collection[str] = ()) -> None:
    """Ask of each argument of ``cls(*args, **kwargs)`` that it is a factory or an object, as its annotation says.

    Arguments:
        cls: the class
        args, kwargs: as they were given
        skip: names of arguments that are asked otherwise

    Raises:
        TypeError: see `require_factory` and `require_instance`
    """
    try:
        given = constructor(cls).bind_partial(*args, **kwargs).arguments
    except TypeError:
        return  # which the call itself says best
    hints = typing.get_type_hints(cls.__init__)
    for name, value in given.items():
        if name in skip or name not in hints:
            continue
        where = f"{cls.__name__}: {name}"
        admitted = options(hints[name])
        if value is None and type(None) in admitted:
            continue
        for hint in admitted:
            if typing.get_origin(hint) is Callable:
                made = typing.get_args(hint)[1]
                require_factory(value, where, (type(value) if isinstance(value, made) else made).__name__)
            elif isinstance(hint, type) and hint.__module__.startswith("rsgm."):
                require_instance(value, hint, where)


def require_positive(owner: str, **numbers: float) -> None:
    """Raise a ValueError that names ``owner`` unless each number is positive and finite."""
    for name, number in numbers.items():
        if not isinstance(number, Real) or not 0 < number < math.inf:
            raise ValueError(f"{owner}: {name} must be positive and finite, found {number!r}.")


def require_count(owner: str, **numbers: int) -> None:
    """Raise a ValueError that names ``owner`` unless each number is an integer of at least one, and can be a size."""
    for name, number in numbers.items():
        if not isinstance(number, Integral) or number < 1:
            raise ValueError(f"{owner}: {name} must be an integer of at least 1, found {number!r}.")
        if number > _MOST:
            raise ValueError(f"{owner}: {name} must be at most {_MOST}, found {number}.")
