"""What a run has logged over its steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: what is drawn of a run, in this order
_TAGS = ("train/loss", "val/nll")

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def read_curves(folder: Path) -> dict[str, Curve]:
    """Steps and values of the training loss and of the validation's NLL, of the events in a run's folder.

    There are none of a law that is fitted in one pass, nor of a checkpoint alone.
    """
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    # it takes a second to import, which an evaluation without a run need not wait for
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "histograms": 1}).Reload()
    found = {}
    for tag in _TAGS:
        if tag in events.Tags()["scalars"]:
            # of a step that was repeated after a resumption, what came last
            last = {event.step: event.value for event in events.Scalars(tag)}
            steps = np.array(sorted(last), dtype=np.float64)
            found[tag] = steps, np.array([last[int(step)] for step in steps])
    return found
