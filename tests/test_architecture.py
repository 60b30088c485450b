"""The rules of the code base that a review forgets: layers, forbidden imports and idioms, sizes, paths.

Each rule is a function from source text (or classes) to a list of complaints. `TestCheckersCanFail` feeds
each of them something bad.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import rsgm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rsgm"

# A room is a module or a folder of the package. Imports point down, or sideways within a layer but never in a
# circle: that is what keeps `divergence` beside `manifolds` and `evaluation` beside `plots`.
LAYERS = [
    {
        "heat_kernels",
        "schedules",
        "networks",
        "seeding",
        "description",
        "arguments",
        "allocation",
        "annotations",
        "configurations",
        "files",
        "progress",
    },
    {"manifolds", "divergence"},
    {"distributions", "fields", "charts"},
    {"processes"},
    {"losses", "samplers", "likelihood"},
    {"models", "data"},
    {"metrics", "plots", "evaluation", "report"},
    {"training", "sweeps"},
    {"cli", "__main__"},
    {"train.py", "evaluate.py"},
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
STRANGERS = {frozenset({"models", "data"}), frozenset({"plots", "data"})}  # neither imports the other
# `rsgm/__init__.py` gathers the public names of every layer, so whoever imports it stands above them all.
LAYER["rsgm"] = LAYER["cli"]

FRAMEWORKS = {"pytorch_lightning", "lightning", "lightning_fabric", "matplotlib", "omegaconf", "jsonargparse"}
MACHINE_PATH = re.compile(r"(^|[^a-z.])/(work|farm|root)/", re.MULTILINE)


# ---- reading


def modules() -> dict[str, str]:
    """Module name -> source text, of the package without its `__init__.py`, `train.py` and `evaluate.py`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["rsgm", *path.relative_to(PACKAGE).with_suffix("").parts]
        # the name of a package keeps its `__init__`: relative imports start from there
        found[".".join(parts)] = path.read_text()
    found.pop("rsgm.__init__", None)
    return found | {path.name: path.read_text() for path in scripts()}


def scripts() -> list[Path]:
    return [path for path in (ROOT / "train.py", ROOT / "evaluate.py") if path.exists()]


def room(module: str) -> str:
    """`rsgm.manifolds.sphere` -> `manifolds`; `train.py` is its own room, and so is the package itself."""
    return module if module.endswith(".py") else (module.split(".")[1:2] or ["rsgm"])[0]


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of all that is imported, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def imported_rooms(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and room of every import from within the package."""
    for line, name in imports(module, source):
        first, *rest = name.split(".")
        if first == "rsgm":
            # `from rsgm import load` takes a name that the package gathers: that is importing the package
            yield line, rest[0] if rest and rest[0] in LAYER else "rsgm"


def matches(nodes: Iterable[ast.AST], kind: type | tuple[type, ...]) -> Iterator[ast.AST]:
    return (node for node in nodes if isinstance(node, kind))


def last_name(node: ast.AST | None) -> str | None:
    """`Sphere` of both `Sphere` and `rsgm.manifolds.Sphere`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def names_in(node: ast.AST) -> set[str]:
    return {name for part in ast.walk(node) if (name := last_name(part)) is not None}


# ---- the rules


def check_layers(sources: dict[str, str]) -> list[str]:
    """Imports point down, or sideways without a circle; models and data never meet; all have a layer."""
    complaints, sideways = [], {}
    for module, source in sources.items():
        here = room(module)
        if here not in LAYER:
            complaints.append(f"{module}: not in the table of layers; add it to LAYERS")
            continue
        for line, there in imported_rooms(module, source):
            if there == here:
                continue
            if LAYER[there] > LAYER[here] or frozenset({here, there}) in STRANGERS:
                complaints.append(
                    f"{module}:{line}: layer {LAYER[here]} ({here}) imports layer {LAYER[there]} ({there})"
                )
            elif LAYER[there] == LAYER[here]:
                sideways.setdefault(here, set()).add(there)
    return complaints + [f"{name}: imports itself through its neighbours" for name in sorted(circles(sideways))]


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The nodes that reach themselves."""

    def reach(start: str) -> set[str]:
        seen, todo = set(), list(graph.get(start, ()))
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += graph.get(node, ())
        return seen

    return {node for node in graph if node in reach(node)}


def check_frameworks(module: str, source: str) -> list[str]:
    """Below training nobody knows Lightning but the data modules, and nobody draws but plots, evaluation and report."""
    if LAYER.get(room(module), 99) >= LAYER["training"]:
        return []
    allowed = {
        "data": {"pytorch_lightning"},
        "plots": {"matplotlib"},
        "evaluation": {"matplotlib"},
        "report": {"matplotlib"},
    }
    forbidden = FRAMEWORKS - allowed.get(room(module), set())
    return [
        f"{module}:{line}: {room(module)} must not import {name}"
        for line, name in imports(module, source)
        if name.split(".")[0] in forbidden
    ]


def check_idioms(module: str, source: str, never_tested_for: set[str]) -> list[str]:
    """No `cfg`, no swallowed exceptions, no `hasattr`, no asking a manifold or a model for its class."""
    complaints = []
    nodes = list(ast.walk(ast.parse(source)))

    def complain(node: ast.AST, what: str) -> None:
        complaints.append(f"{module}:{getattr(node, 'lineno', '?')}: {what}")

    if room(module) != "cli":
        for node in matches(nodes, ast.arg):
            if node.arg in ("cfg", "config"):
                complain(node, f"parameter {node.arg!r}: name what is needed, one argument each")
    for node in matches(nodes, ast.ExceptHandler):
        if node.type is None:
            complain(node, "bare except: name the exceptions")
        elif names_in(node.type) & {"Exception", "BaseException"} and all(map(is_empty, node.body)):
            complain(node, "except Exception: pass hides every error")
    for node in matches(nodes, ast.Call):
        called = last_name(node.func)
        if called == "hasattr":
            complain(node, "hasattr: put the attribute into the abstract class")
        elif called == "suppress" and any(names_in(arg) & {"Exception", "BaseException"} for arg in node.args):
            complain(node, "suppress(Exception) hides every error")
        elif called == "isinstance" and len(node.args) == 2 and (found := names_in(node.args[1]) & never_tested_for):
            complain(node, f"isinstance of {', '.join(sorted(found))}: call a method that each class implements")
        elif called in ("open", "read_text", "write_text") and is_of_the_locale(node):
            complain(node, f"{called} without encoding: a text of ours is in UTF-8 wherever it is read")
    for node in matches(nodes, ast.MatchClass):  # `case Sphere():` is the same question
        if last_name(node.cls) in never_tested_for:
            complain(node, f"case {last_name(node.cls)}(): call a method that each class implements")
    return complaints


def is_of_the_locale(call: ast.Call) -> bool:
    """Whether a file is opened as text, in the encoding of whoever runs this."""
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if last_name(call.func) != "open":
        return isinstance(call.func, ast.Attribute)  # not our own function of that name
    of_system = isinstance(call.func, ast.Attribute) and last_name(call.func.value) in ("os", "gzip")
    return not of_system and not any("b" in str(a.value) for a in matches(call.args, ast.Constant))


def is_empty(statement: ast.stmt) -> bool:
    """`pass`, `...` or a string."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def manifolds_and_models(sources: dict[str, str]) -> set[str]:
    """Names of all classes defined in rsgm.manifolds and rsgm.models."""
    return {
        node.name
        for module, source in sources.items()
        if room(module) in ("manifolds", "models")
        for node in matches(ast.walk(ast.parse(source)), ast.ClassDef)
    }


def check_final(classes: Iterable[type]) -> list[str]:
    """Abstract or final: who subclasses a concrete class of the package. Exceptions may form families."""
    return [
        f"{cls.__module__}.{cls.__qualname__} subclasses {base.__qualname__}, which is concrete"
        for cls in classes
        for base in cls.__bases__
        if base.__module__.split(".")[0] == "rsgm" and not is_abstract(base) and not issubclass(base, BaseException)
    ]


def is_abstract(cls: type) -> bool:
    return inspect.isabstract(cls) or ABC in cls.__bases__ or getattr(cls, "_is_protocol", False)


def check_length(name: str, text: str, limit: int) -> list[str]:
    lines = len(text.splitlines())
    return [f"{name}: {lines} lines, at most {limit}"] if lines > limit else []


def check_machine_paths(name: str, text: str) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, match.start(2)) + 1}: path of one machine: {match.group().strip()}"
        for match in MACHINE_PATH.finditer(text)
    ]


# ---- the code base

SOURCES = modules()


def test_layers() -> None:
    assert any(module.startswith("rsgm.") for module in SOURCES)
    assert check_layers(SOURCES) == []


def test_frameworks() -> None:
    assert [complaint for module, source in SOURCES.items() for complaint in check_frameworks(module, source)] == []


def test_idioms() -> None:
    never = manifolds_and_models(SOURCES)
    assert [complaint for module, source in SOURCES.items() for complaint in check_idioms(module, source, never)] == []


def test_abstract_or_final() -> None:
    import rsgm

    found = set()
    for info in pkgutil.walk_packages(rsgm.__path__, "rsgm."):
        module = importlib.import_module(info.name)
        found |= {cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == info.name}
    assert found
    assert check_final(sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))) == []


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_scripts_are_short(path: Path) -> None:
    assert check_length(path.name, path.read_text(), 15) == []


def repository_files() -> list[Path]:
    """Files that are, or would be, committed: of the folders below and the top level."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or no git
        paths = [path for path in ROOT.rglob("*") if "__pycache__" not in path.parts]
    folders = {"src", "tests", "configs", "docs"}
    inside = [(path, path.relative_to(ROOT).parts) for path in paths if path.is_file()]
    return sorted(path for path, parts in inside if len(parts) == 1 or parts[0] in folders)


def test_no_machine_paths() -> None:
    complaints, read = [], 0
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # an asset
            continue
        read += 1
        complaints += check_machine_paths(str(path.relative_to(ROOT)), text)
    assert read > 1
    assert complaints == []


# ---- the rules themselves


def concrete_child() -> list[type]:
    class Base:
        __module__ = "rsgm.losses"

    class Child(Base):
        __module__ = "rsgm.losses"

    return [Base, Child]


def abstract_child() -> list[type]:
    class Base(ABC):
        __module__ = "rsgm.losses"

        @abstractmethod
        def __call__(self) -> None: ...

    class Middle(Base):  # abstract since it leaves the method open
        __module__ = "rsgm.losses"

    class Child(Middle):
        __module__ = "rsgm.losses"

        def __call__(self) -> None: ...

    class Error(ValueError):
        __module__ = "rsgm.losses"

    class NarrowerError(Error):
        __module__ = "rsgm.losses"

    return [Base, Middle, Child, Error, NarrowerError]


class TestCheckersCanFail:
    @pytest.mark.parametrize(
        "module, source",
        [
            ("rsgm.manifolds.sphere", "import rsgm.losses"),
            ("rsgm.manifolds.sphere", "from rsgm.losses import Loss"),
            ("rsgm.manifolds.sphere", "from rsgm import losses"),
            ("rsgm.manifolds.sphere", "from .. import losses"),
            ("rsgm.manifolds.__init__", "from ..losses import Loss"),
            ("rsgm.heat_kernels", "from .manifolds import Sphere"),
            ("rsgm.heat_kernels", "def f():\n    import rsgm.manifolds"),
            (
                "rsgm.heat_kernels",
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rsgm.manifolds",
            ),
            ("rsgm.losses", "from rsgm import load"),
            ("rsgm.losses", "import rsgm"),
            ("rsgm.models.rsgm", "from rsgm.data import ManifoldData"),
            ("rsgm.data.earth", "from rsgm.models import RSGM"),
            ("rsgm.utils", ""),
            ("rsgm.utils.misc", ""),
        ],
    )
    def test_layers(self, module: str, source: str) -> None:
        complaints = check_layers({module: source})
        assert len(complaints) == 1
        assert complaints[0].startswith(module)

    def test_layers_circle(self) -> None:
        sources = {"rsgm.losses": "import rsgm.samplers", "rsgm.samplers": "import rsgm.losses"}
        assert check_layers(sources) == [
            f"{name}: imports itself through its neighbours" for name in ("losses", "samplers")
        ]

    @pytest.mark.parametrize(
        "module, source",
        [
            ("rsgm.divergence", "from rsgm.manifolds import Manifold"),  # sideways
            ("rsgm.manifolds.sphere", "from rsgm import heat_kernels"),  # down
            ("rsgm.manifolds.sphere", "from .base import Manifold"),  # within the room
            ("rsgm.models.rsgm", "from rsgm.models.base import GenerativeModel\nimport torch"),
            ("rsgm.cli", "import rsgm"),
            ("train.py", "from rsgm.cli import main"),
            ("evaluate.py", "import rsgm"),
        ],
    )
    def test_layers_pass(self, module: str, source: str) -> None:
        assert check_layers({module: source}) == []

    @pytest.mark.parametrize(
        "module, source",
        [
            ("rsgm.networks", "import pytorch_lightning as pl"),
            ("rsgm.fields", "from lightning.pytorch import LightningModule"),
            ("rsgm.losses", "def f():\n    from matplotlib.figure import Figure"),
            ("rsgm.processes.brownian", "import omegaconf"),
            ("rsgm.samplers", "from jsonargparse import CLI"),
            ("rsgm.models.rsgm", "import matplotlib.pyplot as plt"),
        ],
    )
    def test_frameworks(self, module: str, source: str) -> None:
        assert len(check_frameworks(module, source)) == 1

    def test_frameworks_pass(self) -> None:
        assert check_frameworks("rsgm.data.base", "import pytorch_lightning") == []
        assert check_frameworks("rsgm.training.module", "import pytorch_lightning") == []
        assert check_frameworks("rsgm.plots", "import matplotlib") == []

    @pytest.mark.parametrize(
        "source",
        [
            "def f(cfg): ...",
            "def f(*, config=None): ...",
            "f = lambda cfg: cfg",
            "try: f()\nexcept: raise",
            "try: f()\nexcept Exception: pass",
            "try: f()\nexcept (ValueError, Exception) as e: ...",
            "with contextlib.suppress(Exception): f()",
            "hasattr(x, 'dim')",
            "isinstance(m, Sphere)",
            "isinstance(m, manifolds.Sphere)",
            "isinstance(m, (int, Sphere))",
            "isinstance(m, int | Sphere)",
            "match m:\n    case Sphere(): ...",
            "path.read_text()",
            "path.open('w', newline='')",
            "open(path)",
        ],
    )
    def test_idioms(self, source: str) -> None:
        assert len(check_idioms("rsgm.losses", source, {"Sphere"})) == 1

    def test_idioms_pass(self) -> None:
        source = "try: f()\nexcept Exception: log(); raise\nisinstance(x, Tensor)\nisinstance(Sphere, type)\n"
        source += "path.read_text(encoding='utf-8'); write_text(path, x); path.open('rb'); open(path, encoding='utf-8')"
        assert check_idioms("rsgm.losses", source, {"Sphere"}) == []
        assert check_idioms("rsgm.cli", "def f(config): ...", set()) == []

    def test_names_of_manifolds_and_models(self) -> None:
        sources = {f"rsgm.{name}.x": f"class In{name}: ..." for name in ("manifolds", "models", "losses")}
        assert manifolds_and_models(sources) == {"Inmanifolds", "Inmodels"}

    def test_final(self) -> None:
        assert len(check_final(concrete_child())) == 1
        assert check_final(abstract_child()) == []

    def test_length(self) -> None:
        assert check_length("train.py", "\n" * 16, 15) == ["train.py: 16 lines, at most 15"]
        assert check_length("train.py", "\n" * 15, 15) == []

    @pytest.mark.parametrize("folder", ["work", "farm", "root"])
    @pytest.mark.parametrize("before", ["", "x = '", "see "])
    def test_machine_paths(self, before: str, folder: str) -> None:
        text = f"a\n{before}/{folder}/b"  # put together here, lest this file complain of itself
        assert check_machine_paths("f", text) == [f"f:2: path of one machine: {text[2:].lstrip('se x=')[:-1]}"]

    def test_machine_paths_pass(self) -> None:
        assert check_machine_paths("f", "../{0}/x, a{0}/b, /{0}er/".format("work") + "src/work/") == []


def test_type_checkers_see_the_names_that_are_loaded_on_demand():
    tree = ast.parse(Path(rsgm.__file__).read_text())
    (block,) = [statement for statement in tree.body if isinstance(statement, ast.If)]
    seen = [(line.module, alias.name, alias.asname) for line in block.body for alias in line.names]
    assert seen == [(module, name, name) for module, names in rsgm._HOMES.items() for name in names]


def test_what_is_imported_is_declared() -> None:
    """By the package itself, not only by what it depends on."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = text[text.index("dependencies = [") : text.index("[project.")]
    declared = set(re.findall(r'^    "([A-Za-z][\w-]*)', listed, re.MULTILINE))
    packages = {
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
        **dict.fromkeys(["lightning_fabric", "pytorch_lightning"], "pytorch-lightning"),
    }
    optional = {
        "pyvolcans",
        "mlxtend",
        "zuko",
        "ray",
        "xarray",
        "astropy",
        "astropy_healpix",
    }  # extras, whose absence has an error of its own
    found = {name.split(".")[0] for module, source in SOURCES.items() for _, name in imports(module, source)}
    needed = {packages.get(name, name) for name in found - set(sys.stdlib_module_names) - optional - {"rsgm"}}
    assert needed - declared == set()
