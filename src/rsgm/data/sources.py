"""The files behind the named data sets: find, download, verify. The package holds none of them."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pooch
import requests

_COMMIT = "b35b739464ca8264e418e400301f5f45cb7a16b3"
_URL = f"https://raw.githubusercontent.com/oxcsml/riemannian-score-sde/{_COMMIT}/data"
#: for the next byte, and for the whole of a file, none of which has a megabyte
_TIMEOUT_SECONDS, _WHOLE_SECONDS = 5, 60.0


class Source(NamedTuple):
    """What a named set must be: the original file, its rows and SHA-256, those of known copies, and where it is.

    ``url`` is pinned to a commit; where there is none, the file is part of the package MDAnalysis. ``copy`` is a name
    that the file has in other hands.
    """

    original: str
    rows: int | None
    sha256: str
    copies: tuple[str, ...]
    url: str | None
    folder: str = "earth"
    copy: str | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        """Every accepted SHA-256."""
        return (self.sha256, *self.copies)


SOURCES = {
    "volcano": Source(
        "volerup.csv",
        827,
        "f7bbaf32a412f5fe82350f48e0c55100be260803969c16557343f687fd0593fc",
        ("210e4e722318284f79ec16bd8a5ab0414236561cc26a57d9d6fa12541f1eb3c5",),
        f"{_URL}/volerup.csv",
    ),
    "earthquake": Source(
        "quakes_all.csv",
        6120,
        "3e5e1a10fb2faf1899106264289334037d039f00f5265d13dad388a93d8ff2f7",
        ("e1708dfb3b6b85693b94098c989cfe77b0a26cd46f7c5fb9c94dbda17de61d69",),
        f"{_URL}/quakes_all.csv",
    ),
    "flood": Source(
        "flood.csv",
        4875,
        "ffb1e3182c3053afcdeceec4727c262a29da10255d20747c08144da5b0963486",
        ("24e31000d8ecea9bf28f3fd1139f3bbb0acc127e66e53d2f7c17a21a752da25c",),
        f"{_URL}/flood.csv",
    ),
    "fire": Source(
        "fire.csv",
        12809,
        "c5c6c9490b1d8c58ba9eb78d9e2f82d1c1e62694ca5cff917c54600d3d83f459",
        (
            "e848ae0b1527828f6d87e5deb1c95c6e4979ce66f0138ffc0872028ef8ae0fb9",
            "c1fb69d204ab2d743ed0234bb11c1d0692a994ef51788002ad795d1d632516c0",  # Moser flow's, with a header
        ),
        f"{_URL}/fire.csv",
    ),
    "rna": Source(
        "rna.tsv",
        9478,
        "189183ca25bd45c8a7578d3c1cd8a555b5139bb1ab0ac1a0bd25672be19badf7",
        ("6a6f0e3f94022f8782479c7ee960a16cfc07da40067c2f0e2ba88b6f2f3512c1",),
        "https://raw.githubusercontent.com/vislearn/FFF/02db8ec7e1a8cf87bd311893e1a24f4b0eb646d8/fff/data/raw_data/torus"
        "/rna.tsv",
        "torus",
    ),
    "ramachandran": Source(
        "rama_ref_data.npy",
        None,
        "cf022bf8c809aec2258d8205b0f7fafcc51239ea97dc7f68f1b83a0fa198513a",
        ("183f860b2e0199ba7d350406176593b1d84dced63eb51a8016ebf887f8996272",),  # rama_counts.npy, as whole numbers
        None,
        "torus",
        "rama_counts.npy",
    ),
    "janin": Source(
        "janin_ref_data.npy",
        None,
        "365f96d34bbd327cb8c68b4d4adb126e6a260ba7bd547012c40d91a039270186",
        ("26a9923ce8fc26db10df8d1e8d4a676bd7effd877fb438272e3d927339151a48",),
        None,
        "torus",
        "janin_counts.npy",
    ),
}

#: the Smithsonian list of Holocene volcanoes, as the package pyvolcans carries it
GVP_FILE, GVP_ROWS = "VOLCANS_csv_files/VOTW467_8May18_volcano_data.csv", 1439
_INSTALL = 'pip install "rsgm[demo]"'
#: of MDAnalysis only its tables are read, which need nothing that it depends on
_INSTALL_TABLES = "pip install --no-deps MDAnalysis==2.11.0"


class Found(NamedTuple):
    """A verified file: the set it holds, where it came from in words, and the rows it must have, if known."""

    name: str
    path: Path
    source: str
    sha256: str
    rows: int | None = None


def locate(name: str, path: str | None = None) -> Found:
    """Find the file of a named set, or one's own.

    An explicit ``path`` is final: a folder that holds the named set, or any file. Without it the set is
    looked for in `folders`, then downloaded. Only the volcano set, and only where the network is out of
    reach, is then replaced by the Smithsonian list, with a warning.

    Arguments:
        name: a key of `SOURCES`, or ``gvp``
        path: a file or folder

    Raises:
        FileNotFoundError: the set is nowhere; says where it was looked for
        ValueError: a file has the name of a known set and other bytes
    """
    if path is not None:
        return _explicit(name, Path(path).expanduser())
    if name not in SOURCES and name != "gvp":
        raise FileNotFoundError(f"No data set is named {name!r}; pass the file of your own with --data.path=FILE.")
    if name == "gvp":
        return _smithsonian()
    for folder in folders():
        if found := _in_folder(name, folder):
            return found
    return _download(name)


def folders() -> list[Path]:
    """Where files are looked for, first to last: ``$RSGM_DATA``, then ``data`` and ``../shared/data``.

    The latter are relative to the current directory, and to the repository if the package runs from one.
    """
    roots = [Path.cwd()]
    repository = Path(__file__).resolve().parents[3]
    if (repository / "pyproject.toml").is_file():
        roots.append(repository)
    places = [(root / place).resolve() for place in ("data", "../shared/data") for root in roots]
    if named := os.environ.get("RSGM_DATA"):
        places.insert(0, Path(named).expanduser().resolve())
    return list(dict.fromkeys(places))


def in_package(package: str, file: str) -> Path | None:
    """A file of an installed package; None where there is none."""
    # find_spec does not import the package: pyvolcans would pull in pandas and pymatreader
    spec = importlib.util.find_spec(package)
    places = [Path(place) / file for place in (spec.submodule_search_locations or ())] if spec else []
    return next((path for path in places if path.is_file()), None)


def sha256_of(path: Path) -> str:
    """Of a file, hexadecimal; a ValueError where it cannot be read."""
    try:
        return pooch.file_hash(str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error


def _explicit(name: str, path: Path) -> Found:
    if path.is_dir():
        if name in SOURCES and (found := _in_folder(name, path)):
            return found
        raise FileNotFoundError(f"The folder {path} does not hold {' or '.join(_names(name))}.")
    if path.exists() and not path.is_file():
        raise ValueError(f"The data path {path} is no regular file. Write what it yields into one.")
    if not path.is_file():
        raise FileNotFoundError(f"The data path {path} does not exist (current directory {Path.cwd()}).")
    sha256 = sha256_of(path)
    for known, source in SOURCES.items():
        if sha256 in source.hashes:
            return Found(known, path, str(path), sha256, source.rows)
    for known in SOURCES:
        if path.name in _names(known):
            raise _unknown_bytes(known, path, sha256)
    return Found(path.stem, path, str(path), sha256)


def _in_folder(name: str, folder: Path) -> Found | None:
    for path in (folder / sub / file for sub in (SOURCES[name].folder, "") for file in _names(name)):
        if path.is_file():
            return _known(name, path)
    return None


def _known(name: str, path: Path) -> Found:
    sha256 = sha256_of(path)
    if sha256 not in SOURCES[name].hashes:
        raise _unknown_bytes(name, path, sha256)
    return Found(name, path, str(path), sha256, SOURCES[name].rows)


def _download(name: str) -> Found:
    source = SOURCES[name]
    if source.url is None:
        return _of_mdanalysis(name)
    try:
        path = pooch.retrieve(
            source.url,
            known_hash=f"sha256:{source.sha256}",
            fname=source.original,
            path=pooch.os_cache("rsgm"),
            downloader=_in_time,
        )
    except ValueError as error:  # the checksum; pooch has removed the file
        said = "it sent other bytes than those of the set, such as the page of a network that asks for a login"
        raise FileNotFoundError(_nowhere(name, said)) from error
    except OSError as error:  # every error of requests is one
        offline = isinstance(error, (requests.ConnectionError, requests.Timeout))
        if name == "volcano" and offline and _smithsonian_path() is not None:
            found = _smithsonian()
            warnings.warn(
                "SUBSTITUTION: the volcano set is in no local folder and out of reach "
                f"({type(error).__name__}). Using the {found.source} instead. Its numbers cannot be compared "
                "with those of the volcano set; data/README.md says where to get that.",
                stacklevel=2,
            )
            return found._replace(source=f"stand-in for volcano: {found.source}")
        raise FileNotFoundError(_nowhere(name, f"{type(error).__name__}: {error}")) from error
    return Found(name, Path(path), source.url, source.sha256, source.rows)


def _of_mdanalysis(name: str) -> Found:
    path = in_package("MDAnalysis", f"analysis/data/{SOURCES[name].original}")
    if path is None:
        raise FileNotFoundError(f"{_nowhere(name)}\nIt is a file of the package MDAnalysis: {_INSTALL_TABLES}.")
    return _known(name, path)


def _in_time(url: str, output_file: str, pup: Any) -> None:
    """pooch's download over HTTP, whose time-out is for the next byte, with a bound on its whole time.

    A thread that waits cannot be stopped: it is left behind, and ends with the process at the latest.

    Raises:
        requests.Timeout: after `_WHOLE_SECONDS`
    """
    ended: list[BaseException | None] = []

    def download() -> None:
        try:
            pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS, progressbar=True)(url, output_file, pup)
            ended.append(None)
        except BaseException as error:  # raised below
            ended.append(error)

    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    thread.join(_WHOLE_SECONDS)
    if not ended:
        raise requests.Timeout(f"not finished after {_WHOLE_SECONDS:g} seconds")
    if ended[0] is not None:
        raise ended[0]


def _smithsonian() -> Found:
    path = _smithsonian_path()
    if path is None:
        raise FileNotFoundError(f"The set 'gvp' is a file of the package pyvolcans: {_INSTALL}.")
    words = f"Smithsonian list of {GVP_ROWS} Holocene volcanoes (package pyvolcans, {path.name})"
    return Found("gvp", path, words, sha256_of(path), GVP_ROWS)


def _smithsonian_path() -> Path | None:
    return in_package("pyvolcans", GVP_FILE)


def _names(name: str) -> list[str]:
    if name not in SOURCES:
        return [f"{name}.csv"]
    # without a repetition: the original of flood is flood.csv
    return list(dict.fromkeys([SOURCES[name].copy or f"{name}.csv", SOURCES[name].original]))


def _unknown_bytes(name: str, path: Path, sha256: str) -> ValueError:
    expected = "".join(f"\n  {known}" for known in SOURCES[name].hashes)
    return ValueError(
        f"{path} has the name of the {name} set but not its bytes. Found sha256\n  {sha256}\nexpected one of"
        f"{expected}\nFetch the file again; data of your own needs a name of its own and --data.path=FILE."
    )


def _nowhere(name: str, reason: str | None = None) -> str:
    looked = "".join(f"\n  {folder}" for folder in folders())
    demo = f"; or install the stand-in with {_INSTALL}" if name == "volcano" else ""
    source = SOURCES[name]
    failed = "" if source.url is None else f"and the download of {source.url} failed: {reason}\n"
    return (
        f"The {name} set was not found. No {' or '.join(_names(name))}, nor either under {source.folder}/, in{looked}\n"
        f"{failed}"
        "Put the file in one of these folders; or set RSGM_DATA to its folder; or pass --data.path=FILE (the set, or "
        f"any CSV of your own){demo}. data/README.md says where each set comes from."
    )
