"""A page of HTML that stands alone: its style and script are in it, and a browser is told to load nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from rsgm.files import new_text, numbered


class Markup(NamedTuple):
    """A piece of HTML, in which every string of the data is escaped.

    Fields:
        text: as it stands in the page
    """

    text: str


class Number(NamedTuple):
    """A cell of a table that stands on the right.

    Fields:
        text: of it
    """

    text: str


Cell = str | Markup | Number


def escaped(text: Any) -> str:
    """A text of the data, or of anybody, as it stands in HTML: no markup, whatever it says."""
    return html.escape(str(text), quote=True)


def table(head: Sequence[Cell], rows: Sequence[Sequence[Cell]], kind: str = "plain") -> str:
    """A table, its strings escaped, that scrolls where it is wider than the page; its kind is known to report.css."""
    top = "".join(_cell("th", cell) for cell in head)
    body = "".join("<tr>" + "".join(_cell("td", cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and what they are, without those that are None."""
    kept = [(name, value) for name, value in pairs.items() if value is not None]
    return (
        '<dl class="facts">'
        + "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in kept)
        + "</dl>"
    )


def page(title: str, body: str, points: Mapping[str, Any] | None = None) -> str:
    """A page of HTML.

    The policy in it lets a browser run the script that is in it, by its hash, and load no file: what a string of the
    data would do, had it come into the page as markup, is not done.

    Arguments:
        title: of the page
        body: HTML, in which strings of the data are `escaped`
        points: plain data for the views, see `rsgm.report.views`; None for a page without script
    """
    style = _asset("report.css")
    parts = [f"<title>{escaped(title)}</title>", f"<style>{style}</style>"]
    script = ""
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(style)}'"
    if points is not None:
        code = _asset("report.js")
        policy += f"; script-src '{_hash(code)}'"
        # no end of the element, and no comment, within its text
        plain = json.dumps(points, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        script = f'<script type="application/json" id="points">{plain}</script>\n<script>{code}</script>\n'
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        *parts,
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n' + "\n".join(head) + "\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n{script}</body>\n</html>\n"
    )


def write_report(folder: Path, text: str) -> Path:
    """Write a page into ``report.html``, or, where it exists, under the first free number.

    Raises:
        WriteError: see `rsgm.files.new_file`
    """
    for path in numbered(folder / "report.html"):
        with suppress(FileExistsError):
            new_text(path, text)
            break
    return path


def image(data: bytes, kind: str, about: str) -> str:
    """An image within the page, ``kind`` such as webp, and what it shows for those who do not see it."""
    return f'<img alt="{escaped(about)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _cell(tag: str, cell: Cell) -> str:
    if isinstance(cell, Markup):
        return f"<{tag}>{cell.text}</{tag}>"
    if isinstance(cell, Number):
        return f'<{tag} class="number">{escaped(cell.text)}</{tag}>'
    return f"<{tag}>{escaped(cell)}</{tag}>"


def _asset(name: str) -> str:
    return (resources.files("rsgm.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
