"""Settings of the documentation, which `python -m sphinx -W -b html docs docs/_build` makes; code of its pages runs."""

import importlib
from types import ModuleType
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import rsgm

project, author, release = "rsgm", "The rsgm developers", rsgm.__version__
project_copyright = author
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "tables"]  # which are included in pages

html_theme = "furo"
html_title = f"rsgm {release}"
copybutton_exclude = ".linenos, .gp, .go"

# pages: anchors of headings, dollars for mathematics; cells run in an empty folder, and an error of one ends the build
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"

# docstrings: single backticks are names
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
maximum_signature_line_length = 100
napoleon_custom_sections = [("Fields", "params_style")]

#: the rooms of the package that have a page, of which `api` says which names each has
ROOMS = [
    "manifolds",
    "models",
    "data",
    "training",
    "evaluation",
    "report",
    "plots",
    "metrics",
    "losses",
    "processes",
    "samplers",
    "likelihood",
    "networks",
    "fields",
    "divergence",
    "charts",
    "distributions",
    "schedules",
    "heat_kernels",
    "sweeps",
]


def public_names() -> dict[str, str]:
    """The full name of each public one; of one that two rooms share, that of the first."""
    rooms = {f"rsgm.{room}": importlib.import_module(f"rsgm.{room}") for room in reversed(ROOMS)}
    return {name: f"{place}.{name}" for place, room in rooms.items() for name in members(room)}


def members(room: ModuleType) -> list[str]:
    """The public names of a room; of one file, what is defined in it."""
    own = [name for name, value in vars(room).items() if getattr(value, "__module__", None) == room.__name__]
    return getattr(room, "__all__", [name for name in own if not name.startswith("_")])


def skip(app: Sphinx, what: str, name: str, thing: Any, skipped: bool, options: Any) -> bool | None:
    """What Python writes about the fields of a named tuple says nothing."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Any) -> Any:
    """A docstring names a class of another room by its name alone, or by that of the package."""
    if node.get("reftype") not in ("obj", "class", "func", "meth", "attr"):
        return None
    first, *rest = node["reftarget"].removeprefix("rsgm.").split(".")
    if first not in NAMES or node["reftarget"].startswith(NAMES[first]):
        return None
    target = ".".join([NAMES[first], *rest])
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip)


NAMES = public_names()
# which only remembers the arguments; autodoc would take its signature for that of every model
del rsgm.GenerativeModel.__new__
