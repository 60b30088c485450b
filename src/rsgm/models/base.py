"""What every generative model is: a law on a manifold that can be learned."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from rsgm.allocation import Limited
from rsgm.arguments import check_arguments
from rsgm.description import build, describe_call
from rsgm.likelihood import PART, Draws, LogProb, in_parts
from rsgm.manifolds import Manifold, require_manifold
from rsgm.models.checkpoint import read_checkpoint, require_weights, weights_in, write_checkpoint, written_by
from rsgm.models.dynamics import Dynamics
from rsgm.models.law import ModelDistribution

#: points that are drawn at a time
_DRAWN = 2**16


class Latents(NamedTuple):
    """Draws of a latent variable, and the points made of them.

    Fields:
        z: ``(n, latent_dim)``
        x: ``(n, *manifold.shape)``
        reconstructed: whether each x stands for one of the points that were given
    """

    z: Tensor
    x: Tensor
    reconstructed: bool = False


class NonFiniteLossError(RuntimeError):
    """Training has diverged."""


#: what each point of a training and of a validation part counts
Weights = tuple[Tensor, Tensor]


class GenerativeModel(nn.Module, ABC):
    """A probability law on a manifold, learned from points.

    A final subclass says what `draw` and `likelihood` are, and how it is learned: by `loss`, whose gradient
    `rsgm.training.Training`, or a loop of one's own, follows; or in one pass by `fit_points`; or by both in turn.

    Arguments:
        manifold: where the points live
    """

    #: whether `likelihood` takes any number of points and parts them itself, which others are given at most `PART` of
    parts_points = False

    def __new__(cls, *args: Any, **kwargs: Any) -> GenerativeModel:
        """Remember the arguments, from which a checkpoint describes the model.

        Raises:
            TypeError: for an object in the place of its factory, and a class in that of an object
        """
        check_arguments(cls, args, kwargs, skip=["manifold"])
        model = super().__new__(cls)
        object.__setattr__(model, "_arguments", (args, kwargs))
        return model

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = require_manifold(manifold, type(self).__name__)
        self._description: dict[str, Any] | None = None
        #: of the data that it was trained on, with their parts; None where nobody knows
        self.fingerprint: str | None = None

    # what a subclass says

    @abstractmethod
    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` points ``(n, *manifold.shape)``, given a context ``(n, features)`` if the model is conditional."""

    @abstractmethod
    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density ``(B,)`` of points ``(B, *manifold.shape)`` and what it cost."""

    def likelihoods(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """`likelihood` of any number of points, from one on, wherever they are: of some at a time."""

        def of_part(x: Tensor, context: Tensor | None) -> LogProb:
            return self.likelihood(x.to(self.device), None if context is None else context.to(self.device))

        return of_part(x, context) if self.parts_points else in_parts(of_part, x, context)

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """Terms ``(B,)`` for a batch of points; the mean of ``"loss"`` is minimised, all are logged.

        Raises:
            NotImplementedError: by a model that is fitted in one pass
        """
        raise NotImplementedError(
            f"{type(self).__name__} learns nothing by gradient: call fit_points(train, val), or rsgm.fit, instead."
        )

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Fit in closed form, before the first step of training if there is one; nothing to do by default.

        Arguments:
            train, val: points ``(N, *manifold.shape)``
            seed: of random starts
            weights: what each point of train and of val counts, ``(N,)``; None where all count the same. Scales that
                only prepare points for a network are those of all points alike.
        """

    def parameter_groups(self) -> list[Any]:
        """What an optimiser learns: parameters, or groups of them with options of their own."""
        return [p for p in self.parameters() if p.requires_grad]

    def check(self, terms: dict[str, Tensor], step: int) -> None:
        """Raise `NonFiniteLossError` where the means of the terms of `loss` at a step show that training diverges."""

    # what an evaluation asks for, where there is something

    def rough(self) -> GenerativeModel:
        """This law with log-densities that are cheaper and a little less exact, for samples, integrals and pictures;
        itself where there is nothing to save."""
        return self

    def lower_bound(self, x: Tensor, context: Tensor | None = None) -> LogProb | None:
        """A lower bound on the log-density, reported beside `likelihood`; None where there is none."""
        return None

    def transported(self, n: int, context: Tensor | None, generator: torch.Generator) -> Draws | None:
        """``n`` draws near the model's law with the log-densities of the law that they do have; None where that is not
        known. They owe nothing to `likelihood`, whose integral they measure: see `rsgm.likelihood.transport`."""
        return None

    def parts(self) -> list[tuple[float, GenerativeModel]]:
        """The models whose mixture this one is, each after its weight; itself, with weight one, where it is none."""
        return [(1.0, self)]

    def resolution(self) -> float | None:
        """The finest scale the density can resolve, in radians; None where there is no such limit."""
        return None

    def latents(self, x: Tensor, seed: int | None = None) -> dict[str, Latents]:
        """Draws of the latent variable from each of its laws, as many as there are points x; none without one."""
        return {}

    def dynamics(self, x: Tensor, seed: int | None = None) -> Dynamics | None:
        """What happens to points x over time, and to noise on its way back; None where there is no time."""
        return None

    # for users

    def sample(
        self, sample_shape: int | Sequence[int] = (), context: Tensor | None = None, seed: int | None = None
    ) -> Tensor:
        """Points ``(*sample_shape, *manifold.shape)``; equal for equal ``seed``, fresh without one.

        They are drawn in parts: any number of points are no matter of memory. They are float32,
        as networks are; of kernel densities, and of mixtures of models, float64 where space is not compact, for
        coordinates there are of any size.

        Arguments:
            sample_shape: as in `torch.distributions`; an int n stands for ``(n,)``
            context: of a conditional model, ``(features,)`` for all samples or ``(*sample_shape, features)``
            seed: of the draws

        Raises:
            ValueError: for a negative size, and a context of another shape

        Example:
            >>> import rsgm
            >>> rsgm.RSGM(rsgm.Sphere(2)).sample((2, 3), seed=0).shape
            torch.Size([2, 3, 3])
        """
        shape = torch.Size([int(sample_shape)] if isinstance(sample_shape, Integral) else sample_shape)
        if any(size < 0 for size in shape):
            raise ValueError(f"sample: expected sizes of at least 0, found {tuple(shape)}.")
        given, n = self.given(context, shape), shape.numel()
        if not n:
            return torch.empty(*shape, *self.manifold.shape, device=self.device)
        generator, sizes = self.generator(seed), [min(_DRAWN, n - start) for start in range(0, n, _DRAWN)]
        contexts = [None] * len(sizes) if given is None else given.split(_DRAWN)
        parts = [self.draw(size, part, generator) for size, part in zip(sizes, contexts, strict=True)]
        return torch.cat(parts).reshape(*shape, *self.manifold.shape)

    def log_prob(self, x: Tensor | ArrayLike, context: Tensor | ArrayLike | None = None) -> Tensor:
        """Log-density ``(*batch,)`` of points ``(*batch, *manifold.shape)`` in nats, by the Riemannian volume.

        Points and context may be on any device and of any dtype, and any number of points are no matter of memory. It
        is differentiable in x, but for `LatentEBM`, whose value is an estimate by draws.

        Arguments:
            x: points, a tensor or an array
            context: of a conditional model, ``(features,)`` for all points or ``(*batch, features)``

        Raises:
            ValueError: for points of the wrong shape or kind, that are not finite, or off the manifold by more than
                1e-4 (nearer ones are projected), and for a context of another shape or not finite

        Example:
            >>> import rsgm
            >>> rsgm.RSGM(rsgm.Sphere(2)).log_prob(torch.tensor([0.0, 0.0, 1.0])).shape
            torch.Size([])
        """
        x = torch.as_tensor(x)
        self.require_points(x, "log_prob")
        event = self.manifold.shape
        batch, points = x.shape[: x.dim() - len(event)], x.reshape(-1, *event)
        given = self.given(context, batch)
        if not len(points):
            return torch.zeros(batch, dtype=torch.float64, device=self.device)
        return self.likelihoods(points, given).value.reshape(batch)

    def distribution(self, context: Tensor | None = None) -> ModelDistribution:
        """The model as a `torch.distributions.Distribution`, whose support is the manifold.

        Arguments:
            context: of a conditional model, ``(*batch, features)``: one law for each row

        Example:
            >>> import rsgm
            >>> rsgm.RSGM(rsgm.Sphere(2)).distribution().sample((4,)).shape
            torch.Size([4, 3])
        """
        return ModelDistribution(self, context)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, from which `rsgm.load` makes this model again: tensors and plain data, nothing pickled.

        Raises:
            TypeError: for a model with an argument that has no plain form, such as a lambda
        """
        write_checkpoint(self, path)

    @property
    def trainable(self) -> bool:
        """Whether there is anything to learn by gradient."""
        return any(p.requires_grad for p in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((part.device for part in itertools.chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def needs_points(self) -> bool:
        """Whether `fit_points` does anything."""
        return type(self).fit_points is not GenerativeModel.fit_points

    @property
    def fitted(self) -> bool:
        """Whether a model that is fitted in one pass has had its points; others are as they are."""
        return True

    def require_data(self, train: Tensor, val: Tensor | None, weights: Weights | None) -> None:
        """Raise a ValueError where `fit_points` is given a part without points, or without any that counts; of
        validation None is what needs none."""
        for k, (name, points) in enumerate((("training", train), ("validation", val))):
            if points is None:
                continue
            if not len(points):
                raise ValueError(f"{type(self).__name__}: found no {name} points, expected some.")
            if weights is not None and not bool((weights[k] > 0).any()):
                raise ValueError(
                    f"{type(self).__name__}: all weights of the {name} points are zero, expected some above zero."
                )

    def require_fitted(self) -> None:
        """Raise a RuntimeError before `fit_points`."""
        if not self.fitted:
            raise RuntimeError(f"{type(self).__name__} has no points yet; call fit_points, or train it.")

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(p).all()) for p in self.parameters())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # buffers that grow with the data get their stored size first, also in a `Training` or a mixture
        for name, buffer in self.named_buffers():
            if prefix + name in state_dict:
                buffer.resize_(state_dict[prefix + name].shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    # for subclasses, training and checkpoints

    def require_points(self, x: Tensor, where: str) -> None:
        """Raise the ValueError that `log_prob` names, unless x are points ``(*batch, *manifold.shape)``."""
        event = self.manifold.shape
        split = x.dim() - len(event)
        if split < 0 or tuple(x.shape[split:]) != event:
            expected = ", ".join(["*batch", *map(str, event)])
            raise ValueError(f"{where}: expected points ({expected}), found {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise ValueError(f"{where}: expected points of floating-point numbers, found {x.dtype}; use x.double().")
        points = x.reshape(-1, *event)
        if not len(points):
            return
        bad = (~torch.isfinite(points.flatten(1)).all(1)).nonzero()[:, 0].tolist()
        if bad:
            rows = ", ".join(map(str, bad[:10]))
            raise ValueError(
                f"{where}: {len(bad)} of {len(points)} points are not finite (rows {rows}); leave them out."
            )
        for part in points.split(PART):
            ok, reason = self.manifold.check_point_on_manifold(part, explain=True, atol=1e-4, rtol=1e-4)
            if not ok:
                raise ValueError(f"{where}: the points are not on {self.manifold} ({reason}); project them with projx.")

    def given(self, context: Tensor | ArrayLike | None, batch: Sequence[int]) -> Tensor | None:
        """A context ``(n, features)`` on the model's device, of one that broadcasts to ``(*batch, features)``.

        Raises:
            ValueError: for one that does not, or is not finite
        """
        if context is None:
            return None
        context, batch = torch.as_tensor(context), tuple(batch)
        try:
            rows = context.expand(*batch, context.shape[-1])
        except (RuntimeError, IndexError):
            expected = ", ".join([*map(str, batch), "features"])
            raise ValueError(
                f"expected a context ({expected}), or one of (features,) for all, found {tuple(context.shape)}."
            ) from None
        if not bool(torch.isfinite(context).all()):
            raise ValueError("expected a context of finite numbers, found others; leave these rows out.")
        return rows.reshape(-1, rows.shape[-1]).to(self.device)

    def generator(self, seed: int | None) -> torch.Generator:
        """A generator on the model's device, freshly seeded where ``seed`` is None."""
        generator = torch.Generator(self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(int(seed))
        return generator

    @property
    def description(self) -> dict[str, Any]:
        """``{class_path, init_args}`` from which `rsgm.load` builds this model again."""
        if self._description is None:
            self._description = describe_call(type(self), *self._arguments)
        return self._description

    @description.setter
    def description(self, value: dict[str, Any]) -> None:
        self._description = value

    def redescribe(self, **arguments: Any) -> None:
        """Say in the description, and so in checkpoints, what fitting has made of constructor arguments."""
        self.description = {**self.description, "init_args": {**self.description["init_args"], **arguments}}

    def altered(self, **parts: Any) -> GenerativeModel:
        """A twin that shares all but the given attributes with this model, which stays as it is."""
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        for name, part in parts.items():
            setattr(twin, name, part)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # a copy is described as the model is; factories that the command line made hold its parser
        try:
            return {**self.__dict__, "_description": self.description, "_arguments": ((), {})}
        except TypeError:
            return dict(self.__dict__)


#: numbers that a model may have of its own, beside its weights in a checkpoint
_FEW = 2**20


def load(path: str | Path, device: torch.device | str = "cpu") -> GenerativeModel:
    """The model in a checkpoint, with its averaged weights where it has them, ready to sample and to score.

    Only classes that are already imported and that the constructors' annotations admit are built; a model with
    parts of your own needs their module imported first. Its sizes are bounded by the weights in the file.

    Arguments:
        path: a ``.ckpt`` file, or any other that `GenerativeModel.save` wrote
        device: where to put the model

    Raises:
        FileNotFoundError, CheckpointError: see `read_checkpoint`; the latter also for a class that is not admitted, and
            arguments or weights that the model does not have here
    """
    checkpoint = read_checkpoint(path)
    weights = weights_in(checkpoint)
    size = max(_FEW, sum(value.numel() for value in weights.values()))
    with written_by(checkpoint, path), Limited(4 * size, "its model"):
        model = build(checkpoint["rsgm"]["model"], GenerativeModel, most=size)
        require_weights(model, weights)
    model.description = checkpoint["rsgm"]["model"]
    for name, value in itertools.chain(model.named_parameters(), model.named_buffers()):
        # a model that was trained in double precision keeps its digits
        if name in weights:
            value.data = value.data.to(weights[name].dtype)
    model.load_state_dict(weights)
    model.fingerprint = checkpoint["rsgm"].get("fingerprint")
    return model.to(device).eval()
