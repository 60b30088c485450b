"""What a configuration leaves to the data: the manifold, and the size of the context."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace, dict_to_namespace

from rsgm.data import ManifoldData
from rsgm.description import describe
from rsgm.manifolds import Manifold


def from_data() -> Manifold:
    """In a configuration, and nowhere else: the manifold of the data.

    ``manifold: rsgm.from_data``
    """
    raise ValueError("from_data stands for the manifold of the data in a configuration; give that manifold itself.")


def fill_in(model: Namespace, data: ManifoldData) -> None:
    """Put the manifold of the data in the place of `from_data`, and the size of their context in that of 0.

    Arguments:
        model: the configuration of a model, which is changed
        data: set up; the context of those that do not name theirs is up to the configuration
    """
    context = data.train.context if data.context_names else None
    _fill(model, data, 0 if context is None else context.shape[1])


def _fill(part: Any, data: ManifoldData, context: int) -> None:
    if isinstance(part, list):
        for item in part:
            _fill(item, data, context)
    if not isinstance(part, Namespace):
        return
    for key, value in list(vars(part).items()):
        if isinstance(value, Namespace) and str(vars(value).get("class_path")).rpartition(".")[2] == from_data.__name__:
            part[key] = dict_to_namespace(describe(data.manifold))
        elif key == "context_features" and value == 0:
            part[key] = context
        else:
            _fill(value, data, context)
