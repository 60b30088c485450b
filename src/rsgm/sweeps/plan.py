"""What a sweep is made of: a file of methods, cases and seeds, and the trials that it asks for."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from rsgm import configurations
from rsgm.sweeps.trial import Group, Trial, as_text

#: what a method may say; under `in`, of some cases, the same without `in` and `only`
_METHOD = ("config", "set", "grid", "search", "parts", "seeds", "cpus", "gpus", "label", "only", "in")
_SEARCH = ("count", "seed", "keys")
_RANGE = ("low", "high", "log")
_SWEEP = ("title", "notes", "methods", "cases", "seeds", "select", "selection_seeds", "reference", "columns")


class SweepError(ValueError):
    """A file of a sweep, or a request, that cannot be followed."""


@dataclass(frozen=True)
class Sweep:
    """Methods x cases x settings x seeds, as a YAML file has them.

    A file says

    - ``methods``: by name; each has a ``config`` (a file or a list of them, in which ``{data.name}`` stands for what
      the case sets) and may ``set`` keys of the command line, try a ``grid`` (key: list of values, all combinations)
      or a ``search`` (``count`` random draws: ``keys``, each a list to choose from or ``{low, high, log}``), restrict
      itself to the cases that match ``only``, have its own ``seeds``, ``cpus``, ``gpus`` and ``label``, and say
      otherwise ``in`` the cases that match a pattern. One that names other methods as ``parts`` is a `ModelMixture` of
      their checkpoints, of the same case and seed: of those of them that have the case. A file without ``methods`` is
      one method itself.
    - ``cases``: by name, the keys that each sets; a file without has one.
    - ``seeds``: of the runs, by default 0.
    - ``select``: the number on validation points, of ``metrics.json``, by which the best candidate is chosen.
    - ``selection_seeds``: those that candidates are compared on; the others are run of the best one only.
    - ``title``, ``notes``, ``reference`` (the method that others are compared with, seed by seed), ``columns`` (by
      heading further numbers of ``metrics.json``, each alone or with its floor): how results are shown.

    Arguments:
        file: its path
        groups: a method on a case, each
        cases, methods: names in the file's order, and how a method is called in tables
        select: see above
        selection_seeds: see above
        reference: see above; None for no comparison
        columns: see above
        title, notes: text
    """

    file: str
    groups: tuple[Group, ...]
    cases: tuple[str, ...]
    methods: Mapping[str, str]
    select: str = "validation.nll"
    selection_seeds: frozenset[int] | None = None
    reference: str | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    title: str = ""
    notes: str = ""

    @property
    def name(self) -> str:
        """The stem of the file's name."""
        return Path(self.file).stem

    @property
    def further(self) -> list[str]:
        """The places in ``metrics.json`` of the numbers that it asks for."""
        return [self.select, *(place for places in self.columns.values() for place in places)]

    @property
    def trials(self) -> Iterator[Trial]:
        """All of them."""
        return (trial for group in self.groups for candidate in group.candidates for trial in candidate)

    def compares(self, seed: int) -> bool:
        """Whether candidates are compared on a seed."""
        return self.selection_seeds is None or seed in self.selection_seeds

    @classmethod
    def read(cls, path: str | Path) -> Sweep:
        """The sweep of a file.

        Raises:
            SweepError: for no such file, one that says something else, and one that names a configuration that is not
                there
        """
        path = Path(path)
        said, where = dict(_mapping(load_yaml(path), f"{path}")), str(path)
        if "methods" not in said:  # one method, and its keys are the file's
            if "config" not in said:
                raise SweepError(f"{where}: found neither methods nor config; name a configuration, config: FILE.")
            own = {key: said.pop(key) for key in _METHOD if key in said and key != "seeds"}
            said["methods"] = {Path(_list(own["config"])[0]).stem: own}
        _only(said, _SWEEP, where)
        methods = _named(said["methods"], f"{where}: methods")
        cases = _named(said.get("cases") or {"": {}}, f"{where}: cases")
        select, reference = str(said.get("select", "validation.nll")), said.get("reference")
        if not select.startswith("validation."):
            raise SweepError(
                f"{where}: select is {select!r}, expected a number on validation points, such as validation.nll: a "
                "choice on test points would spoil them."
            )
        if reference is not None and reference not in methods:
            raise SweepError(f"{where}: reference is {reference!r}, expected one of {', '.join(methods)}.")
        seeds = _seeds(said.get("seeds", [0]), where)
        groups: list[Group] = []
        # a mixture after its parts
        mixtures = [name for name, inner in methods.items() if _mixes(inner)]
        for method in [*(name for name in methods if name not in mixtures), *mixtures]:
            inner, place = methods[method], f"{where}: methods.{method}"
            _only(inner, _METHOD, place)
            for case, setting in cases.items():
                if any(fnmatchcase(case, str(pattern)) for pattern in _list(inner.get("only", "*"))):
                    groups.append(_group(case, method, setting, _at(inner, case, place), seeds, place, groups))
        if not groups:
            raise SweepError(f"{where}: no method has a case.")
        chosen, columns = said.get("selection_seeds"), _mapping(said.get("columns") or {}, f"{where}: columns")
        found = cls(
            path.as_posix(),
            tuple(groups),
            tuple(cases),
            {name: str(inner.get("label", name)) for name, inner in methods.items()},
            select,
            None if chosen is None else frozenset(_seeds(chosen, f"{where}: selection_")),
            reference,
            {name: tuple(_list(places)) for name, places in columns.items()},
            str(said.get("title", path.stem)),
            str(said.get("notes", "")),
        )
        for group in found.groups:
            if len(group.candidates) > 1 and not any(found.compares(trial.seed) for trial in group.candidates[0]):
                raise SweepError(f"{where}: methods.{group.method} has none of the selection_seeds, {chosen}.")
        keys = [trial.key for trial in found.trials]
        twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
        if twice:
            raise SweepError(
                f"{where}: two trials have the name {twice[0]}; give their case or method another name, and each value "
                "of a grid once."
            )
        return found


def _group(
    case: str,
    method: str,
    setting: Mapping[str, Any],
    said: Mapping[str, Any],
    seeds: list[int],
    where: str,
    others: list[Group],
) -> Group:
    """The trials of a method on a case."""
    config, contents = [], []
    for name in _list(said.get("config", [])):
        for key, value in setting.items():
            name = str(name).replace(f"{{{key}}}", as_text(value))
        try:
            contents.append(load_yaml(Path(configurations.find(str(name)))))
        except ValueError as error:
            raise SweepError(f"{where}: {error}") from None
        config.append(name)
    if not config:
        raise SweepError(f"{where}: no config; expected the file that train.py takes.")
    cpus, gpus = said.get("cpus", 1), said.get("gpus", 0)
    if type(cpus) is not int or cpus < 1 or not isinstance(gpus, int | float) or gpus < 0:
        raise SweepError(
            f"{where}: cpus is {cpus!r} and gpus is {gpus!r}, expected a whole number from 1 on, and one from 0."
        )
    candidates = []
    for settings in _candidates(said, where):
        overrides = {**setting, **_mapping(said.get("set") or {}, f"{where}.set"), **settings}
        own = _seeds(said["seeds"], where) if "seeds" in said else seeds
        shared = tuple(config), overrides, cpus, gpus, contents
        parts = {seed: _parts(_list(said.get("parts", [])), case, seed, others, where) for seed in own}
        candidates.append(tuple(Trial(case, method, settings, seed, *shared, parts[seed]) for seed in own))
    return Group(case, method, tuple(candidates))


def _parts(methods: list[str], case: str, seed: int, groups: list[Group], where: str) -> tuple[Trial, ...]:
    """The trials of some methods on a case with a seed, as far as they have them."""
    known = {group.method for group in groups if not any(trial.parts for trial in group.candidates[0])}
    unknown = [name for name in methods if name not in known]
    if unknown:
        raise SweepError(f"{where}.parts: {unknown[0]!r} is no other method of the file, without parts itself.")
    mixed = (group for group in groups if group.case == case and group.method in methods)
    found = tuple(trial for group in mixed for trials in group.candidates for trial in trials if trial.seed == seed)
    if methods and not found:
        raise SweepError(f"{where}.parts: none of {', '.join(methods)} has the case {case!r} with the seed {seed}.")
    return found


def _mixes(said: Mapping[str, Any]) -> bool:
    """Whether a method has parts, in some case at least."""
    inner = said.get("in") or {}
    return any("parts" in one for one in [said, *(inner.values() if isinstance(inner, Mapping) else [])])


def _at(said: Mapping[str, Any], case: str, where: str) -> dict[str, Any]:
    """What a method says of a case: its own, and what stands under `in` of those that match."""
    found = dict(said)
    for pattern, more in _mapping(found.pop("in", {}), f"{where}.in").items():
        place = f"{where}.in.{pattern}"
        _only(_mapping(more, place), [key for key in _METHOD if key not in ("in", "only", "label")], place)
        if fnmatchcase(case, str(pattern)):
            found |= more | {"set": {**(found.get("set") or {}), **(more.get("set") or {})}}
    return found


def _candidates(said: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """All combinations of the grid, each with all draws of the search."""
    grid = {key: _list(values) for key, values in _mapping(said.get("grid") or {}, f"{where}.grid").items()}
    empty = [key for key, values in grid.items() if not values]
    if empty:
        raise SweepError(f"{where}.grid: {empty[0]} has no values, expected one at least.")
    combined = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if "search" not in said:
        return combined
    search = _mapping(said["search"], f"{where}.search")
    _only(search, _SEARCH, f"{where}.search")
    count, seed = search.get("count", 1), search.get("seed", 0)
    if type(count) is not int or count < 1 or type(seed) is not int:
        raise SweepError(
            f"{where}.search: count is {count!r} and seed is {seed!r}, expected whole numbers, count from 1 on."
        )
    keys, draws = _mapping(search.get("keys", {}), f"{where}.search.keys"), random.Random(seed)
    drawn = [
        {key: _draw(draws, choice, f"{where}.search.keys.{key}") for key, choice in keys.items()} for _ in range(count)
    ]
    # what was drawn twice is tried once
    return [one | other for one in combined for k, other in enumerate(drawn) if other not in drawn[:k]]


def _draw(draws: random.Random, choice: Any, where: str) -> Any:
    """One of a list; or a number between two, whole where both are, to three digits otherwise."""
    if isinstance(choice, list) and choice:
        return draws.choice(choice)
    _only(_mapping(choice, where), _RANGE, where)
    try:
        low, high = float(choice["low"]), float(choice["high"])
        logarithmic = bool(choice.get("log", False))
        if not (0 if logarithmic else -math.inf) < low < high:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise SweepError(
            f"{where}: found {choice}, expected a list, or numbers low < high, above 0 where log is true."
        ) from None
    value = math.exp(draws.uniform(math.log(low), math.log(high))) if logarithmic else draws.uniform(low, high)
    whole = isinstance(choice["low"], int) and isinstance(choice["high"], int)
    return min(int(high), round(value)) if whole else float(f"{value:.3g}")


def load_yaml(path: Path) -> Any:
    """The contents of a YAML file."""
    if not path.is_file():
        raise SweepError(f"No file at {path}.")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} is no YAML: {' '.join(str(error).split())}") from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SweepError(f"{where}: found {value!r:.60}, expected keys with values.")
    return value


def _named(value: Any, where: str) -> dict[str, Mapping[str, Any]]:
    return {str(name): _mapping(inner, f"{where}.{name}") for name, inner in _mapping(value, where).items()}


def _only(said: Mapping[str, Any], known: list[str] | tuple[str, ...], where: str) -> None:
    unknown = sorted(str(key) for key in said if key not in known)
    if unknown:
        raise SweepError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(known)}.")


def _seeds(value: Any, where: str) -> list[int]:
    found = _list(value)
    if not found or any(type(seed) is not int or seed < 0 for seed in found) or len(set(found)) < len(found):
        raise SweepError(f"{where}: seeds are {value!r}, expected different whole numbers from 0 on.")
    return found
