"""Print the lowest versions of the dependencies and of the extras that are tested, as constraints for pip."""

import re
from pathlib import Path

#: not pinned: torch is heavy, and a tool of the tests is no part of what is installed
APART = {"torch", "rsgm", "pytest", "pytest-timeout", "pytest-xdist", "ruff", "hypothesis", "pre-commit"}

text = Path("pyproject.toml").read_text()
# no parser of TOML comes with Python 3.10
for name, lowest in re.findall(r'"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)[^"]*"', text.partition("[tool.")[0]):
    if name not in APART and name != "setuptools":
        print(f"{name}=={lowest}")
