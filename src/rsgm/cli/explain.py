"""An error of the command-line parser in one line, with the nearest name where a name is unknown."""

from __future__ import annotations

import difflib
import inspect
import re
import sys

#: keys of former versions, and where they are now
_MOVED = {
    "model.optimizer": "training.optimizer",
    "model.learning_rate": "training.learning_rate",
    "ema": "training.averaging",
    "model.ema": "training.averaging",
    "model.ode": "model.likelihood (of a flow model.solver)",
}


class UsageError(ValueError):
    """A command line or configuration that cannot be used."""


def explain(message: str, keys: list[str]) -> str:
    """The cause in an error of the parser, in one line, with the nearest name where a name is unknown.

    Arguments:
        message: of jsonargparse, which nests the errors of all alternatives
        keys: that the parser knows
    """
    text = " ".join(message.split())
    # of the alternatives of an optional value, the first is the one that was meant
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ", "", text)
    text = re.split(r" - Expected a <class 'NoneType'>", text)[0]
    parents = re.findall(r'Parser key "([\w.]+)":', text)
    text = re.sub(r'Parser key "[\w.]+": ?', "", text).strip(" -")
    where = ".".join(dict.fromkeys(parents))
    group = re.search(r"Group '(\w+)' does not accept option '([\w.]+)'", text)
    if group:
        return _did_you_mean("key", ".".join(group.groups()), "", keys)
    unknown = re.search(r"[Uu]nrecognized arguments?: -*([\w.]+)|[Oo]ption '([\w.]+)' is not accepted", text)
    if unknown:
        key = unknown.group(1) or unknown.group(2)
        own = [k for k in keys if not k.endswith("help")]
        # a key with parts is one of the parser's own, if it is near to one
        meant = not where and difflib.get_close_matches(key.split(".")[0], [k.split(".")[0] for k in own])
        return _did_you_mean("key", key, where, own if "." in key and meant else own + _argument_names())
    if text.startswith("unknown "):
        return text.replace(" '", f" '{where}.", 1) if where else text
    number = re.search(r"(Expected a <class '(?:int|float)'>) - Expected a dot import path string: (\S+)", text)
    if number:  # not the object that it may be instead
        return f"{where}: {number.group(1)}. Got value: {number.group(2)}"
    name = re.search(r"Expected a dot import path string: (\S+)", text)
    if name:
        return _did_you_mean("class", name.group(1), where, [cls.__name__ for cls in _classes()])
    path = re.search(r"Expected a path but (\S+) either not accessible or invalid - (.*)", text)
    if path:
        reason = re.sub(r"Problem with given class_path '[^']*': ", "", path[2])
        place = "; a module of your own is looked for in the working folder" if "No module" in reason else ""
        return f"{where}: no class at {path[1]}: {reason}{place}"
    text = text.replace("typing.Literal", "one of ")
    return f"{where}: {text}" if where else text


def moved(text: str) -> str:
    """The line of `explain`; of a key of a former version, where it is now."""
    key = re.match(r"unknown key '([\w.]+)'", text)
    for old, new in _MOVED.items() if key else ():
        if f"{key[1]}.".startswith(f"{old}."):
            return f"unknown key '{key[1]}'; it is now '{new}'"
    return text


def _did_you_mean(kind: str, name: str, where: str, known: list[str]) -> str:
    head, heads = name.split(".")[0], [k.split(".")[0] for k in known]
    wanted, pool = (name, known) if head in heads else (head, heads)
    near = difflib.get_close_matches(wanted, pool, n=1, cutoff=0.3)
    full = f"{where}.{name}" if where and kind == "key" else name
    place = f"{where}: " if where and kind == "class" else ""
    if near and near[0] == name:
        return f"{place}unknown {kind} {full!r}; other classes have one, this class has not"
    return f"{place}unknown {kind} {full!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _classes() -> list[type]:
    """The classes of the package that a configuration may name."""
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "rsgm"]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [c for c in found if c.__module__.startswith("rsgm.") and not issubclass(c, (tuple, BaseException))]


def _argument_names() -> list[str]:
    return sorted({name for cls in _classes() for name in inspect.signature(cls.__init__).parameters})
