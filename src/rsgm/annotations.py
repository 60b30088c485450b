"""What the annotation of a constructor's argument admits: plain values, lists of them, classes and factories."""

from __future__ import annotations

import collections.abc
import types
import typing
from pathlib import Path
from typing import Any

import torch

_LISTS = (list, tuple, frozenset, collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)


def options(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation: those of a union, else itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def admits(annotation: Any, value: Any) -> bool:
    """Whether an annotation admits None, a number or a text. Of a whole number no float, of a number no truth value.

    Example:
        >>> admits(float | None, 3), admits(int, 3.0), admits(int, True), admits(str | None, None)
        (True, False, False, True)
    """
    return any(_admits(option, value) for option in options(annotation))


def item_annotation(annotation: Any, kind: type) -> Any:
    """The annotation of the items of a list, or of the values of a dict, that an annotation admits; None for none."""
    kinds = _LISTS if kind is list else _MAPPINGS
    found: list[Any] = []
    for option in options(annotation):
        origin, arguments = typing.get_origin(option) or option, typing.get_args(option)
        if option is Any or (origin in kinds and not arguments):
            return Any
        if origin is torch.Tensor and kind is list:  # nested lists of numbers
            found.append(torch.Tensor | float | bool)
        if origin in kinds:
            found += [argument for argument in arguments[kind is dict :] if argument is not Ellipsis]
    return typing.Union[tuple(found)] if found else None  # noqa: UP007, for `Any | int` is no type in Python 3.10


def classes(annotation: Any) -> tuple[tuple[type, ...], tuple[type, ...]]:
    """Classes that an annotation admits as objects, and as factories of objects."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is collections.abc.Callable:
        return (), classes(arguments[1])[0]
    if isinstance(annotation, type) and origin is None:
        return (annotation,), ()
    parts = [classes(argument) for argument in arguments]
    return tuple(c for part in parts for c in part[0]), tuple(c for part in parts for c in part[1])


def in_words(annotation: Any) -> str:
    """An annotation for an error."""
    text = annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
    for module in ("collections.abc.", "typing."):
        text = text.replace(module, "")
    return text


def _admits(option: Any, value: Any) -> bool:
    if option is Any:
        return True
    if typing.get_origin(option) is typing.Literal:
        return any(value == one and type(value) is type(one) for one in typing.get_args(option))
    if option is float:
        return type(value) in (int, float)
    return type(value) is (str if option is Path else option)
