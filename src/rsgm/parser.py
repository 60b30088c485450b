"""The parser of command lines and configurations."""

from __future__ import annotations

from typing import Any

from jsonargparse import _typehints
from pytorch_lightning.cli import LightningArgumentParser

from rsgm.explain import UsageError, explain


class Parser(LightningArgumentParser):
    """Reports a wrong key or value in one line, with the nearest key that exists."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise one line; the command prints it."""
        raise UsageError(explain(message, [action.dest for action in self._actions]))


_carry_over = _typehints.discard_init_args_on_class_path_change


def _without_defaults(action: Any, former: Any, value: Any) -> None:
    """Where another class takes a part's place, what the former class had by default does not go over to it.

    jsonargparse (4.53) keeps of the former class whatever the new one accepts as well. What somebody asked for should
    stay, such as the learning rate of another optimiser; but a `ResidualMLP` in the place of the default `MLP` would
    get that one's activation, and a `VariancePreserving` process the schedule of `Brownian`. It has no public setting
    for this.
    """
    if former and "init_args" in former and former["class_path"] != value["class_path"]:
        defaults = _typehints.ActionTypeHint.get_class_parser(former["class_path"]).get_defaults()
        for key, default in vars(defaults).items():
            if key in former["init_args"] and former["init_args"][key] == default:
                former["init_args"].pop(key)
    _carry_over(action, former, value)


_typehints.discard_init_args_on_class_path_change = _without_defaults
