"""The command `rsgm configs`: the configurations that come with the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsgm import configurations
from rsgm.cli.errors import in_one_line
from rsgm.cli.explain import UsageError


def configs_command(args: list[str] | None = None, command: str = "rsgm configs") -> int:
    """List the configurations that --config takes by name, or print one, to copy and change; the exit status."""
    parser = argparse.ArgumentParser(prog=command, description=configs_command.__doc__, allow_abbrev=False)
    parser.add_argument("name", nargs="?", help="Print this one, such as volcano_rsgm.")
    options = parser.parse_args(args)
    with in_one_line(command) as failure:
        if options.name is not None:
            print(Path(file_of(options.name)).read_text(encoding="utf-8"), end="")
            return 0
        names = configurations.names()
        for name in names:
            print(f"{name:<{max(map(len, names))}}  {configurations.about(name)}")
        return 0
    return failure.status


def file_of(name: str) -> str:
    """The file that ``--config`` means: a file, or a configuration of the package."""
    try:
        return configurations.find(name)
    except ValueError as error:
        raise UsageError(f"--config: {error}") from None


def by_name(args: list[str]) -> list[str]:
    """Arguments of a command, with the files that ``--config`` means; what is YAML itself is left to the parser."""
    found, before = [], None
    for arg in args:
        key, equals, value = arg.partition("=") if arg.startswith("--config=") else ("", "", arg)
        named = (equals or before == "--config") and not set(value) & set("\n{[:")
        found.append(f"{key}{equals}{file_of(value) if named else value}")
        before = arg
    return found
