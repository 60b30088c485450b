"""Print the lowest versions of the dependencies and of the extras that are tested, as constraints for pip."""

import re
from pathlib import Path

#: not pinned: torch is heavy, and tools of tests and pages are no part of what is installed
APART = {
    "torch",
    "rsgm",
    "codespell",
    "hypothesis",
    "pre-commit",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
} | {
    "furo",
    "myst-nb",
    "sphinx",
    "sphinx-copybutton",
}

text = Path("pyproject.toml").read_text()
# no parser of TOML comes with Python 3.10
for name, lowest in re.findall(r'"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)[^"]*"', text.partition("[tool.")[0]):
    if name not in APART and name != "setuptools":
        print(f"{name}=={lowest}")
