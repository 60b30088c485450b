"""The data that a checkpoint names."""

from __future__ import annotations

from typing import Any

from rsgm.allocation import Limited
from rsgm.data import ManifoldData, TableData
from rsgm.description import build
from rsgm.models import CheckpointError, written_by

#: the largest size that the data of a checkpoint may have without being handed over in Python
_MOST = 10**7


def load_data(checkpoint: dict[str, Any]) -> ManifoldData:
    """The data module that a checkpoint was trained on, set up.

    Raises:
        CheckpointError: where the checkpoint does not say, or the data have changed since
    """
    description = checkpoint["rsgm"].get("data")
    if description is None:
        raise CheckpointError(
            "The checkpoint does not name its data, which a Python program held; pass the data module to rsgm.evaluate."
        )
    with Limited(10 * _MOST, "the data that the checkpoint names"):
        with written_by(checkpoint, "The checkpoint's record of its data"):
            data = build(description, ManifoldData, _MOST)
        data.prepare_data()
        data.setup()
    expected = checkpoint["rsgm"].get("fingerprint", data.fingerprint)
    if data.fingerprint != expected:
        provenance = data.provenance()
        raise CheckpointError(
            f"The data or their splits have changed since training: found the fingerprint {data.fingerprint} of "
            f"{provenance['source'] or provenance['name']}, expected {expected}. Bring back the file of then, or pass "
            "other data to rsgm.evaluate."
        )
    return data


def load_reader(checkpoint: dict[str, Any]) -> ManifoldData:
    """The data module of a checkpoint as far as that itself knows the data: to read and write points and contexts.

    Its training part are the points that the checkpoint has kept, the others are empty; no file is looked for. Where it
    has kept none, as of pictures, its data are loaded.

    Raises:
        CheckpointError: where the checkpoint says nothing of its data, or see `load_data`
    """
    record = checkpoint["rsgm"]
    if record.get("reference") is None:
        return load_data(checkpoint)
    with written_by(checkpoint, "The checkpoint's record of its data"):
        # of points that a program held there are the columns alone
        data = TableData() if record.get("data") is None else build(record["data"], ManifoldData, _MOST)
        data.recall(record)
    return data
