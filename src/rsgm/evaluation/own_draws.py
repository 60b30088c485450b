"""What a model's own draws say of points: how likely a less likely place is."""

from __future__ import annotations

import torch
from torch import Tensor

from rsgm.data import ManifoldData
from rsgm.likelihood import Draws
from rsgm.metrics import density_ranks
from rsgm.models import GenerativeModel
from rsgm.progress import bar
from rsgm.seeding import seed_from

#: most draws that are made at a time
_AT_ONCE = 16_384


def own_draws(model: GenerativeModel, n: int, context: Tensor | None = None, seed: int = 0) -> Draws:
    """Draws of a model and their log-densities under it, float64; those of `GenerativeModel.rough`.

    Arguments:
        model: the law
        n: how many
        context: of a conditional model, ``(features,)`` for all draws or ``(n, features)``
        seed: of the draws
    """
    points = model.manifold.projx(model.sample(n, context, seed).double())
    return Draws(points.cpu(), model.rough().log_prob(points, context).double().cpu())


def tail_probability(
    model: GenerativeModel, log_density: Tensor, draws: int = 2000, context: Tensor | None = None, seed: int = 0
) -> Tensor:
    r"""The probability :math:`P(p(X) < p(x))` that the model gives to places of lower density, ``(n,)``, float64.

    It is one less the coverage of the smallest region of highest density that holds the point: of points that the model
    has drawn itself it is uniform, and near zero it marks outliers. All points of one context are held against the same
    draws, of which those as likely count half; the standard error is :math:`\sqrt{P(1 - P) / \mathrm{draws}}`.

    References: Hyndman 1996, "Computing and Graphing Highest Density Regions", The American Statistician 50.

    Arguments:
        model: the law
        log_density: of the points under it, ``(n,)``, nats
        draws: how many draws of each context
        context: of a conditional model, under which the points were scored: ``(features,)`` for all of them, or
            ``(n, features)``
        seed: of the draws

    Raises:
        ValueError: fewer than one draw, log-densities that are not ``(n,)``, contexts of another shape

    Example:
        >>> from rsgm.models import KernelDensity
        >>> from rsgm.manifolds import Sphere
        >>> model = KernelDensity(Sphere(2), min_width=0.1)
        >>> points = Sphere(2).random_uniform(50, 3, generator=torch.Generator().manual_seed(0))
        >>> model.fit_points(points, points)
        >>> tail_probability(model, torch.tensor([-10.0, 10.0])).tolist()
        [0.0, 1.0]
    """
    if draws < 1:
        raise ValueError(f"tail_probability: found {draws} draws, expected at least one.")
    if log_density.dim() != 1:
        raise ValueError(f"tail_probability: found log-densities of shape {tuple(log_density.shape)}, expected (n,).")
    if context is not None and context.dim() != 1 and context.shape[:-1] != log_density.shape:
        raise ValueError(
            f"tail_probability: found a context of shape {tuple(context.shape)}, expected one of (features,) for all "
            f"points, or one of ({len(log_density)}, features)."
        )
    density = log_density.detach().double().cpu()
    if context is None or context.dim() == 1:
        return density_ranks(density, own_draws(model, draws, context, seed).log_density)
    contexts, of_row = torch.unique(context.cpu(), dim=0, return_inverse=True)
    tail, done = torch.empty_like(density), 0
    with bar("tail probabilities", len(contexts), "contexts") as shown:
        # several contexts in one solve, and no more than it takes to fill it
        for some in contexts.split(max(1, _AT_ONCE // draws)):
            drawn = own_draws(model, draws * len(some), some.repeat_interleave(draws, 0), seed_from("tail", seed, done))
            for own in drawn.log_density.split(draws):
                rows = of_row == done
                tail[rows] = density_ranks(density[rows], own)
                done += 1
            shown.update(len(some))
    return tail


def require_context(data: ManifoldData, context: Tensor | None) -> None:
    """Raise a ValueError unless there is one context ``(features,)`` if, and only if, the data have contexts."""
    known = data.test.context
    if known is None and context is not None:
        raise ValueError("The model is not conditional; leave the context (--given) out.")
    if known is not None and (context is None or tuple(context.shape) != tuple(known.shape[1:])):
        found = "no context" if context is None else f"one of shape {tuple(context.shape)}"
        names = " ".join(f"{name}=VALUE" for name in data.context_names)
        raise ValueError(
            f"The model is conditional: found {found}, expected one of {known.shape[1]} numbers for all places"
            f"{names and f', as by --given {names}'}."
        )


def law_in_words(model: GenerativeModel, data: ManifoldData, context: Tensor | None) -> str:
    """A model and its data, and the context ``(features,)`` in the words of the data."""
    if context is None:
        given = []
    elif data.context_names:
        (cells,) = data.decode_context(context[None])
        given = [f"{name}={cell}" for name, cell in zip(data.context_names, cells, strict=True)]
    else:
        given = [f"{value:g}" for value in context.tolist()]
    return f"{type(model).__name__} on {data.title}" + f", given {', '.join(given)}" * bool(given)
