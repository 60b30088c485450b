"""A second device without one: real numbers on the CPU that say they are on "meta", and do not meet those that do not.

A fake tensor has no values, so that nothing adaptive can be run with it: no ODE, no quadrature, no figure. Here a
tensor that is moved away stays where it is and is marked, with all that is made of it.
"""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import Future

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

AWAY = torch.device("meta")
_MARK = "_is_away"


class MismatchError(RuntimeError):
    """Tensors on two devices in one operation."""


class ElsewhereGenerator(torch._C.Generator):
    """A generator on the CPU that says where it was asked for."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self):
        return self.place


def is_away(tensor: torch.Tensor) -> bool:
    while _MARK not in tensor.__dict__ and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.__dict__.get(_MARK, False)


def mark(result, away: bool):
    for tensor in tree_leaves(result):
        if isinstance(tensor, torch.Tensor):
            tensor.__dict__[_MARK] = away
    return result


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Elsewhere(TorchFunctionMode):
    """All of PyTorch's functions, with the marks."""

    #: between devices; an index may lie on the CPU
    CROSSING = (torch.Tensor.copy_, torch.Tensor.__getitem__, torch._has_compatible_shallow_copy_type)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:
            return AWAY if is_away(args[0]) else func(*args)
        if func == torch.Tensor.data.__set__:
            func(*args)
            mark(args[0], is_away(args[1]))
            return None
        if func in (torch.Tensor.to, torch.Tensor.cpu):
            return self.move(func, *args, **kwargs)
        found = tensors((args, kwargs))
        away = any(map(is_away, found))
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and away:
            raise TypeError("can't convert a tensor that is away to numpy; use Tensor.cpu() first")
        if away and func not in self.CROSSING and any(t.dim() and not is_away(t) for t in found):
            raise MismatchError(f"{getattr(func, '__name__', func)} of tensors here and away")
        if func in self.CROSSING:
            away = is_away(args[0])
        if kwargs.get("device") is not None:
            away = torch.device(kwargs["device"]) == AWAY
            kwargs["device"] = "cpu"
        return mark(func(*args, **kwargs), away)

    def move(self, func, tensor, *args, **kwargs):
        device, dtype = (torch.device("cpu"), None) if func is torch.Tensor.cpu else (kwargs.get("device"), None)
        for part in (*args, kwargs.get("dtype"), kwargs.get("other")):
            if isinstance(part, torch.Tensor):
                device, dtype = AWAY if is_away(part) else torch.device("cpu"), part.dtype
            elif isinstance(part, torch.dtype):
                dtype = part
            elif isinstance(part, (str, torch.device)):
                device = part
        away = is_away(tensor) if device is None else torch.device(device) == AWAY
        moved = tensor.to(dtype or tensor.dtype)
        return mark(tensor.clone() if moved is tensor and away != is_away(tensor) else moved, away)


def keeps_the_mark(function):
    """For what PyTorch does below its functions."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return mark(function(*args, **kwargs), any(map(is_away, tensors((args, kwargs)))))

    return call


class Here(contextlib.nullcontext):
    """An executor in this thread: in another the mode is not on."""

    def __init__(self, workers):
        super().__init__(self)

    def submit(self, function, *args):
        done = Future()
        done.set_result(function(*args))
        return done


def prepare(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """The mode, in which `AWAY` is a device."""
    monkeypatch.setattr("rsgm.heat_kernels.base.ThreadPoolExecutor", Here)
    monkeypatch.setattr(torch, "Generator", ElsewhereGenerator)
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", keeps_the_mark(torch.nn.Parameter.__deepcopy__))
    vmap = torch.func.vmap
    monkeypatch.setattr(torch.func, "vmap", lambda *args, **kwargs: keeps_the_mark(vmap(*args, **kwargs)))
    monkeypatch.setattr(torch.func, "jvp", keeps_the_mark(torch.func.jvp))
    # which knows no "meta"
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    return Elsewhere()
