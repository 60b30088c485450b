"""The parser of command lines and configurations.

jsonargparse (4.53) has no public setting for what two functions below mend. Within `mended`, and nowhere else, they
take the place of private ones of its module ``_typehints``; tests/test_configs.py fails where a version has others.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, _typehints, set_parsing_settings
from pytorch_lightning.cli import LightningArgumentParser

from rsgm.annotations import admits, in_words
from rsgm.cli.explain import UsageError, explain, moved


class Parser(LightningArgumentParser):
    """Reports a wrong key or value in one line, with the nearest key that exists."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise one line; the command prints it."""
        raise UsageError(moved(explain(message, [action.dest for action in self._actions])))


def local_path(text: str) -> Path:
    """A path of the command line, with the user's home in the place of ``~``, which shells leave alone behind ``=``."""
    return Path(os.path.expanduser(text))


_carry_over = _typehints.discard_init_args_on_class_path_change
_rank = _typehints.union_subtype_sort_key


def _without_defaults(action: Any, former: Any, value: Any) -> None:
    """Where another class takes a part's place, what the former class had by default does not go over to it.

    jsonargparse keeps of the former class whatever the new one accepts as well. What somebody asked for should stay,
    such as the learning rate of another optimiser; but a `ResidualMLP` in the place of the default `MLP` would get
    that one's activation, and a `VariancePreserving` process the schedule of `Brownian`.
    """
    if former and "init_args" in former and former["class_path"] != value["class_path"]:
        defaults = _typehints.ActionTypeHint.get_class_parser(former["class_path"]).get_defaults()
        for key, default in vars(defaults).items():
            if key in former["init_args"] and former["init_args"][key] == default:
                former["init_args"].pop(key)
    _carry_over(action, former, value)


def _numbers_first(subtype: Any) -> float:
    """Of ``int | float | str`` the int is tried first, then the float: 1 stays 1, and is neither 1.0 nor "1".

    To the Trainer ``limit_val_batches=1`` is one batch and ``1.0`` is all of them. jsonargparse tries the types in the
    order of the annotation, which is not the one in Lightning's source: `typing` keeps one object for all orders, the
    first that any module of the process has written.
    """
    return _rank(subtype) + {int: -0.5, float: -0.25}.get(subtype, 0.0)


@contextmanager
def mended() -> Iterator[None]:
    """Within this block the two functions above are jsonargparse's."""
    _typehints.discard_init_args_on_class_path_change = _without_defaults
    _typehints.union_subtype_sort_key = _numbers_first
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = _carry_over
        _typehints.union_subtype_sort_key = _rank


# a dataclass is named by its class like every other part, which a checkpoint needs to build it again
set_parsing_settings(subclasses_enabled=["is_pure_dataclass"])


def require_given(made: object, arguments: Namespace, where: str) -> None:
    """Raise a UsageError for an argument that is None and may not be, where the constructor did not mind.

    The parser takes null for an argument that is left out; a checkpoint that says null could not be read.

    Arguments:
        made: a model or data
        arguments: of which it was made
        where: its name on the command line
    """
    hints = typing.get_type_hints(type(made).__init__)
    for name, value in vars(arguments).items():
        if value is None and not admits(hints.get(name, Any), None):
            raise UsageError(f"{where}.{name}: found null, expected {in_words(hints[name])}; leave it out instead.")


def require_settings(file: str | Path) -> None:
    """Raise a UsageError for a YAML file that is no names with values, all of which the parser would quote, and for one
    that holds itself, by an alias: the parser would not come to an end.

    A file that is not there, or is no YAML, is left to the parser.
    """
    try:
        with open(file, encoding="utf-8") as text:
            root = yaml.compose(text, yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{file}: found no names with values, expected YAML such as `rsgm configs earth` prints.")
    if _holds_itself(root, ()):
        raise UsageError(f"{file}: found an alias (*name) inside of what it stands for; write out what is meant.")


def _holds_itself(node: Any, above: tuple[Any, ...]) -> bool:
    if any(node is other for other in above):
        return True
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
    return any(_holds_itself(part, (*above, node)) for part in inner)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """The options of a command that loads a checkpoint; see `import_own`."""
    parser.add_argument("--device", default="cpu", help="Where to compute, e.g. cuda.")
    parser.add_argument("--import", dest="modules", action="append", default=[], help="Module with parts of your own.")


def import_own(modules: list[str]) -> None:
    """Import modules with parts of one's own, which may lie in the working folder."""
    sys.path.insert(0, os.getcwd())
    for module in modules:
        importlib.import_module(module)
