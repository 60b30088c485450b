"""Seeds for independent random streams, derived from names and numbers."""

from __future__ import annotations

import hashlib

import torch


def seed_from(*parts: int | str) -> int:
    """The seed of the stream that ``parts`` name, the same on every machine and in every version.

    Parts that differ in any place give unrelated seeds. PyTorch's CPU generator uses 32 bits of its seed, so
    two streams coincide with probability 2**-32: some 40 pairs in a run of 600,000 steps, which does no
    harm.

    Arguments:
        parts: what the stream is for, e.g. ``("batch", seed, step)``; ``1`` and ``"1"`` are the same part

    Returns:
        An integer in [0, 2**63), the first bytes of a SHA-256.

    Example:
        >>> seed_from("batch", 0, 1)
        5258346546272468185
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_from(*parts: int | str) -> torch.Generator:
    """A fresh CPU generator seeded with `seed_from`."""
    return torch.Generator().manual_seed(seed_from(*parts))


def set_seed(seed: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of a device, from which the draws of a model there come.

    `torch.manual_seed` seeds those of every kind of device; for one that the machine lacks it writes down the whole
    call stack, in all 0.5 ms within a training loop.

    Example:
        >>> set_seed(3, torch.device("cpu"))
        >>> torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))
        True
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class StepCounter:
    """Counts the batches of each optimiser step, of which there are several where gradients are accumulated.

    Called at each batch with the number of optimiser steps before it; the micro-step starts from 0 where that changes.

    Example:
        >>> counter = StepCounter()
        >>> [counter(step) for step in (0, 1, 1, 2)]
        [(0, 0), (1, 0), (1, 1), (2, 0)]
    """

    def __init__(self) -> None:
        self._position = (-1, 0)

    def __call__(self, step: int) -> tuple[int, int]:
        """The position of a batch, ``(step, micro_step)``."""
        last, micro_step = self._position
        self._position = (step, micro_step + 1 if step == last else 0)
        return self._position
