"""A bound on the memory of what somebody else's file asks for."""

from __future__ import annotations

import math
from typing import Any

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


class Limited(TorchDispatchMode):
    """Within this context tensors of at most so many numbers are made, all together; the next one is an error.

    It is noticed before memory is taken. What is computed of tensors, rather than made of sizes, is not counted.

    Arguments:
        most: numbers
        purpose: what they are for, for the error

    Raises:
        ValueError: from within, for more

    Example:
        >>> import torch
        >>> with Limited(100, "a model"):
        ...     torch.nn.Linear(10, 1000)
        Traceback (most recent call last):
        ...
        ValueError: a model asks for a tensor of 1000 x 10, more than the 100 numbers that it may have.
    """

    def __init__(self, most: int, purpose: str) -> None:
        super().__init__()
        self.most, self.purpose = most, purpose
        self._left = most

    @override
    def __torch_dispatch__(self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        size = _size(func, {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs)
        self._left -= math.prod(size)
        if size and self._left < 0:
            raise ValueError(
                f"{self.purpose} asks for a tensor of {' x '.join(map(str, size))}, more than the {self.most} numbers "
                "that it may have."
            )
        return func(*args, **kwargs)


def _size(func: OpOverload, arguments: dict[str, Any]) -> list[int]:
    """The size of a tensor that is made of sizes; empty for all others."""
    if "self" in arguments and not func._schema.name.startswith(("aten::new_", "aten::resize", "aten::repeat")):
        return []  # a view, or computed
    if "size" in arguments:
        return list(arguments["size"])
    if "repeats" in arguments and isinstance(arguments["repeats"], (list, tuple)):
        return [*arguments["repeats"], arguments["self"].numel()]
    if "steps" in arguments:
        return [arguments["steps"]]
    if "n" in arguments:
        return [arguments["n"], arguments.get("m", arguments["n"] if "eye" in func._schema.name else 1)]
    if "end" in arguments:
        return [max(0, math.ceil((arguments["end"] - arguments.get("start", 0)) / arguments.get("step", 1)))]
    return []
