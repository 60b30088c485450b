"""Links of the pages lead somewhere, words are spelt, every public name has its line, the notebook runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rsgm

ROOT = Path(__file__).parents[1]
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "data" / "README.md"]
PAGES = sorted([*WRITTEN, *(ROOT / "docs").rglob("*.md"), ROOT / "RESULTS.md"])
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def text_of(page: Path) -> str:
    """With the files that it includes, and without code."""
    text = page.read_text()
    for name in re.findall(r"^```\{include\} (\S+)", text, flags=re.MULTILINE):
        text += (page.parent / name).read_text()
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page) if page.parent != ROOT / "docs" else page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    pattern = r"(?<![\w/.])(?:configs/[\w/]+\.yaml|(?:data|docs|examples|tests|src)/[\w/.]+\.(?:md|py|ipynb)\b)"
    for path in re.findall(pattern, page.read_text().replace("configs/sweep/NAME.yaml", "")):
        assert (ROOT / path).exists() or (page.parent / path).exists(), path


#: names, and a word of other code
UNKNOWN_WORDS = "teh,theis,oint,volcanoe"


def test_words_are_spelt():
    files = [
        *map(str, PAGES),
        str(ROOT / "CITATION.cff"),
        str(ROOT / "examples"),
        str(ROOT / "src"),
        str(ROOT / "docs" / "conf.py"),
    ]
    command = [sys.executable, "-m", "codespell_lib", "--skip=*.npz,*.ipynb", f"-L={UNKNOWN_WORDS}", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_first_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    for figure in (ROOT / "docs" / "figures").iterdir():
        assert figure.stat().st_size <= 150_000, figure


def test_every_page_of_the_site_has_a_place():
    """In a table of contents, which may be a pattern."""
    index = (ROOT / "docs" / "index.md").read_text()
    entries = [
        line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, flags=re.DOTALL) for line in block.splitlines()
    ]
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or any(
            Path(page.stem).match(entry) for entry in entries if entry and entry[0] != ":"
        ), page
    rooms = re.findall(r"^(\w+)$", (ROOT / "docs" / "api" / "index.md").read_text(), flags=re.MULTILINE)
    assert sorted(rooms) == sorted(page.stem for page in (ROOT / "docs" / "api").glob("*.md") if page.stem != "index")


def test_every_public_name_has_a_line():
    listed = (ROOT / "docs" / "api" / "index.md").read_text()
    for name in rsgm.__all__:
        assert re.search(rf"^   {name}$|autofunction:: rsgm\.cli\.{name}$", listed, flags=re.MULTILINE), name


def test_citation():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= found.keys()
    assert found["authors"] == [{"name": "The rsgm developers"}]
    assert found["version"] == rsgm.__version__
    assert f"version = {{{rsgm.__version__}}}" in (ROOT / "README.md").read_text()
    assert f"rsgm-{rsgm.__version__}-py3" in (ROOT / "docs" / "first_ten_minutes.md").read_text()


def test_notebook_is_small_and_whole():
    nbformat = pytest.importorskip("nbformat", reason='needs the extra "docs"')
    notebook = nbformat.read(NOTEBOOK, 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells if cell.source.splitlines()[-1].startswith(("print", "figure", "data.")))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert NOTEBOOK.stat().st_size <= 200_000


@pytest.mark.slow
def test_notebook_runs(tmp_path):
    """And prints what it shows, to the digits that a machine may change."""
    pytest.importorskip("nbclient", reason='needs the extra "docs"')
    import nbformat
    from nbclient import NotebookClient

    shown, notebook = nbformat.read(NOTEBOOK, 4), nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell, before in zip(notebook.cells, shown.cells, strict=True):
        if cell.cell_type == "code":
            assert _numbers(cell) == pytest.approx(_numbers(before), abs=0.05), cell.source


def _numbers(cell) -> list[float]:
    """Those of a test NLL in what a cell prints."""
    printed = "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
    return [float(number) for number in re.findall(r"test NLL\D*?(-?\d+\.\d+)", printed)]
