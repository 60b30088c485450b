"""Checkpoints of strangers: whatever is in them, a model or a sentence, and no more memory than the file has."""

import copy
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import rsgm
from rsgm import RSGM, KernelDensity, Sphere
from rsgm.allocation import Limited
from rsgm.annotations import admits
from rsgm.data import LawData
from rsgm.description import build
from rsgm.evaluation import load_data, load_reader
from rsgm.losses import DenoisingScoreMatching
from rsgm.manifolds import Manifold
from rsgm.models import CheckpointError, GenerativeModel, read_checkpoint, write_checkpoint
from rsgm.networks import MLP
from tiny import enter, run


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, Any]:
    """The contents of a checkpoint, with its data."""
    data = LawData(train_size=20, val_size=5, test_size=5)
    path = tmp_path_factory.mktemp("valid") / "model.ckpt"
    write_checkpoint(RSGM(Sphere(2), network=partial(MLP, hidden=[4, 4])), path, seed=0, training={}, **data.record())
    return read_checkpoint(path)


def changed(valid: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A checkpoint with another value at a place, whose names are parted by dots; ``-`` leaves it out."""
    found = copy.deepcopy(valid)
    *above, name = place.split(".")
    node = found
    for key in above:
        node = node[key]
    if isinstance(value, str) and value == "-":
        del node[name]
    else:
        node[name] = value
    return found


def opened(checkpoint: Any, folder) -> None:
    """What `rsgm.load` and an evaluation make of a checkpoint."""
    path = folder / "strange.ckpt"
    torch.save(checkpoint, path)
    rsgm.load(path)
    found = read_checkpoint(path)
    load_reader(found)
    load_data(found)


INNER = "rsgm.model.init_args"
MALFORMED = {
    "record is none": ("rsgm", None, "found None for its record, expected names and values"),
    "record is text": ("rsgm", "x", "found 'x' for its record"),
    "model is none": ("rsgm.model", None, "found None for its model, expected dict"),
    "model is a list": ("rsgm.model", [], r"found \[\] for its model"),
    "model is text": ("rsgm.model", "RSGM", "found 'RSGM' for its model"),
    "model is empty": ("rsgm.model", {}, "names None, but the module '' is not imported"),
    "data are text": ("rsgm.data", "EarthData", "found 'EarthData' for its data, expected dict or None"),
    "seed is text": ("rsgm.seed", "0", "found '0' for its seed, expected int or None"),
    "version is a number": ("rsgm.version", 2, "found 2 for its version"),
    "training is a list": ("rsgm.training", [1], "for its training"),
    "weights are a list": ("state_dict", [], "expected tensors by name for its weights"),
    "weights are none": ("state_dict", None, "expected tensors by name for its weights"),
    "a weight is a number": ("state_dict.x", 1.0, "expected tensors by name for its weights"),
    "a weight is one number": ("state_dict.x", torch.zeros(1).expand(10**9), "expected tensors by name"),
    "arguments are a list": ("rsgm.model.init_args", [1], "expected class_path and init_args by name"),
    "an argument is missing": (f"{INNER}.manifold", "-", "GenerativeModel cannot be made: TypeError"),
    "an abstract class": (
        f"{INNER}.manifold",
        {"class_path": "rsgm.manifolds.Manifold"},
        "RSGM.manifold cannot be made",
    ),
    "a manifold is text": (f"{INNER}.manifold", "S2", "RSGM.manifold: expected Manifold, found 'S2'"),
    "a manifold is none": (f"{INNER}.manifold", None, "RSGM.manifold: expected Manifold, found None"),
    "a network is a number": (f"{INNER}.network", 3, "RSGM.network: expected .*Network.*, found 3"),
    "widths are text": (f"{INNER}.network.init_args.hidden", "44", r"MLP.hidden: expected Sequence\[int\], found '44'"),
    "a width is a float": (f"{INNER}.network.init_args.hidden", [4.0], "MLP.hidden: expected int, found 4.0"),
    "a width is true": (f"{INNER}.network.init_args.hidden", [True], "MLP.hidden: expected int, found True"),
    "a width is huge": (f"{INNER}.network.init_args.hidden", [10**9], "MLP.hidden is 1000000000, more than 1048576"),
    "widths are large": (f"{INNER}.network.init_args.hidden", [10**5, 10**5], "tensor of 100000 x 100000, more than"),
    "many widths": (f"{INNER}.network.init_args.hidden", [1000] * 10**4, "asks for a tensor of .*, more than the"),
    "a dimension is huge": (f"{INNER}.manifold.init_args.dim", 10**9, "Sphere.dim is 1000000000, more than 1048576"),
    "a dimension is text": (f"{INNER}.manifold.init_args.dim", "2", "Sphere.dim: expected int, found '2'"),
    "another dimension": (f"{INNER}.manifold.init_args.dim", 3, "its weights are not those of RSGM"),
    "steps are huge": (f"{INNER}.sampler.init_args.steps", 10**9, r"ReverseDiffusion.steps is 1000000000, more than"),
    "no such place": (f"{INNER}.beta", 1, "has no argument 'beta'"),
    "a test part is huge": ("rsgm.data.init_args.test_size", 10**10, "LawData.test_size is 10000000000, more than"),
    "data are large": ("rsgm.data.init_args.train_size", 10**6, None),
    "a batch is text": ("rsgm.data.init_args.batch_size", "8", "LawData.batch_size: expected int, found '8'"),
    "a law is a path": ("rsgm.data.init_args.law", "/etc/passwd", "LawData.law: expected .*, found '/etc/passwd'"),
    "points are text": ("rsgm.reference", {"points": "x"}, "expected tensors for its reference"),
    "points are more": ("rsgm.reference", {"dots": torch.zeros(3)}, "record of its data, of version"),
}


@pytest.mark.parametrize("place, value, message", MALFORMED.values(), ids=MALFORMED)
def test_malformed(place, value, message, valid, tmp_path):
    if message is None:
        # admitted by its size alone; what is drawn of it is not
        message = "the data that the checkpoint names asks for a tensor of "
        valid = changed(valid, "rsgm.data.init_args.law.init_args.dim", 1000)
    with pytest.raises(ValueError, match=message) as caught:
        opened(changed(valid, place, value), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_valid_one(valid, tmp_path):
    """Or else none of the above would show anything."""
    opened(valid, tmp_path)


def test_nothing_is_admitted_that_is_nested_without_end(valid, tmp_path):
    node: Any = {"class_path": "rsgm.Sphere"}
    for _ in range(200):
        node = {"class_path": "rsgm.Product", "init_args": {"factors": [node]}}
    with pytest.raises(ValueError, match="is nested more than 24 parts deep"):
        build(node, Manifold)
    values: Any = 1
    for _ in range(200):
        values = [values]
    with pytest.raises(ValueError, match=r"MLP\.hidden: expected int, found "):
        opened(changed(valid, f"{INNER}.network.init_args.hidden", values), tmp_path)


def test_bits_that_fell_over(valid, tmp_path):
    path = tmp_path / "flipped.ckpt"
    torch.save(valid, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        parts = [part for part in file.infolist() if part.file_size > 40 and "/data/" in part.filename]
    assert len(parts) > 3
    for part in parts:
        place = whole.find(b"PK\x03\x04", part.header_offset) + 30
        place += len(part.filename) + int.from_bytes(whole[part.header_offset + 28 : part.header_offset + 30], "little")
        path.write_bytes(whole[: place + 5] + bytes([whole[place + 5] ^ 1]) + whole[place + 6 :])
        with pytest.raises(CheckpointError, match="is torn or has changed since it was written"):
            read_checkpoint(path)


def test_a_file_that_grows_when_it_is_read(valid, tmp_path):
    plain, packed = tmp_path / "plain.ckpt", tmp_path / "packed.ckpt"
    torch.save(valid, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="is torn or is not a checkpoint"):
        read_checkpoint(packed)


def test_a_file_that_may_not_be_read_is_not_called_torn(valid, tmp_path, monkeypatch):
    path = tmp_path / "secret.ckpt"
    torch.save(valid, path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PermissionError):
        read_checkpoint(path)


def test_a_configuration_is_code_and_a_checkpoint_is_not(valid, tmp_path, monkeypatch):
    """As docs/security.md says."""
    enter(tmp_path, monkeypatch)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "of_a_stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    with pytest.raises(ValueError, match="module 'of_a_stranger' is not imported"):
        opened(changed(valid, f"{INNER}.manifold", {"class_path": "of_a_stranger.X"}), tmp_path)
    assert not Path("ran").exists()
    assert run("--model.manifold=of_a_stranger.X") == 2
    assert Path("ran").exists()


def test_a_large_seed_is_a_seed():
    found = build({"class_path": "rsgm.data.LawData", "init_args": {"seed": 2**40}}, LawData)
    assert found.seed == 2**40


def test_sizes_that_a_file_of_its_own_size_may_have(tmp_path):
    """A kernel density of many points, whose number is nowhere in the description."""
    x = Sphere(2).random_uniform(3000, 3)
    model = rsgm.fit(KernelDensity(Sphere(2), min_width=0.2, widths=3), x)
    model.save(tmp_path / "kde.ckpt")
    assert len(rsgm.load(tmp_path / "kde.ckpt").points) == 2700


def test_a_limit_counts_what_is_made_of_sizes():
    makers = [
        lambda: torch.empty(11),
        lambda: torch.zeros(2, 6),
        lambda: torch.randn(11, generator=torch.Generator()),
        lambda: torch.arange(11),
        lambda: torch.arange(0, 22, 2),
        lambda: torch.linspace(0, 1, 11),
        lambda: torch.eye(4),
        lambda: torch.randperm(11),
        lambda: torch.nn.Linear(3, 3),
        lambda: torch.ones(2).repeat(3, 2),
        lambda: torch.ones(1).resize_(20),
        lambda: torch.ones(1).new_zeros(11),
        lambda: [torch.zeros(6) for _ in range(2)],
    ]
    for make in makers:
        with (
            pytest.raises(ValueError, match=r"^it asks for a tensor of .*, more than the 10 numbers"),
            Limited(10, "it"),
        ):
            make()
    with Limited(10, "it"):
        x = torch.zeros(10)
        assert (x.expand(100, 10) + 1).sum() == 1000


def test_annotations():
    from typing import Literal

    assert admits(Literal["a", 3], 3)
    assert not admits(Literal["a", 1], True)
    assert not admits(bool, 1)
    assert admits(DenoisingScoreMatching | None, None)
    assert not admits(GenerativeModel | str, 1.0)
