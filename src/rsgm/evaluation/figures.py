"""The figures of an evaluation: what a model makes, beside what it should resemble."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rsgm import plots
from rsgm.data import ManifoldData, Split
from rsgm.likelihood import SolveError
from rsgm.metrics import Integral
from rsgm.models import Dynamics, GenerativeModel, Latents

#: most points whose noising is drawn; most images in one picture
_DOTS, IMAGES = 2000, 64
#: points along each axis of a field of scores, and how far along the times there is one
_FIELD, _FIELD_TIMES = 50, (0, 1 / 7, 3 / 7, 1)


def sample_like(model: GenerativeModel, reference: Split, n: int, seed: int | None = 0) -> Tensor:
    """``n`` samples; those of a conditional model given the context of the reference's rows.

    Where there are fewer rows than samples they are taken again from the first.
    """
    return model.sample(n, contexts_like(model, reference, n), seed)


def contexts_like(model: GenerativeModel, reference: Split, n: int) -> Tensor | None:
    """The contexts of ``n`` rows of the reference, from the first and in turn, as a model takes them."""
    context = contexts_in_turn(reference, n)
    if context is None:
        return None
    context = context.to(model.device)
    return context.float() if context.is_floating_point() else context


def contexts_in_turn(reference: Split, n: int) -> Tensor | None:
    """The contexts of ``n`` rows of the reference, from the first and in turn."""
    context = reference.context
    return None if context is None else context[torch.arange(n) % len(context)]


def with_nll(part: str, nll: float) -> str:
    """What a title says of a score."""
    return f"{part} NLL {nll:.3f}".replace("-", "−")


def sample_figure(
    data: ManifoldData, samples: Tensor, reference: Tensor, title: str | None = None, name: str = "test"
) -> Figure | None:
    """Samples beside the points that they should resemble, under their name; of pictures some samples, as pictures."""
    if data.image_shape is None:
        caption = plots.Caption(title, data.header, data.earth, name)
        return plots.draw_samples(data.manifold, samples, reference, caption)
    return plots.image_grid(samples[:IMAGES].unflatten(1, data.image_shape).cpu(), title=title).figure


def density_figure(
    model: GenerativeModel,
    data: ManifoldData,
    log_density: Callable[[Tensor], Tensor],
    title: str,
    reference: Tensor,
    name: str = "test",
    known: tuple[Tensor, Tensor] | None = None,
    levels: tuple[tuple[str, float], ...] = (),
) -> Figure | None:
    """A density, the train points, and under their name those that it is scored on; None of a conditional model.

    Arguments:
        model: whose density it is
        data: what it was trained on
        log_density: ``(n, *shape) -> (n,)``, nats
        title: a line above it
        reference: the points that it is scored on, ``(m, *shape)``
        name: of these
        known: see `rsgm.plots.draw_density`
        levels: of contours, see `rsgm.plots.density_levels`
    """
    if data.test.context is not None:
        return None
    caption = plots.Caption(title, data.header, data.earth, name, levels)
    return _figure(plots.draw_density(model.manifold, log_density, data.train.points, reference, caption, known))


def draw(
    model: GenerativeModel,
    data: ManifoldData,
    density: Integral | None,
    latents: dict[str, Latents],
    samples: Tensor,
    steps: int | None = None,
    nll: float | None = None,
    log_densities: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Figure]:
    """All there are, by name; of a conditional model no density and no dynamics.

    Arguments:
        model: what is drawn
        data: what it was trained on
        density: its values all over the manifold, if they are known
        latents: draws of its latent variable, for the first of the test points
        samples: of the model, as many as the picture shall have
        steps: of the training, for the titles
        nll: of the test points, nats, for the titles of samples and density
        log_densities: of the test points and of draws, nats, for contours and calibration
    """
    test = data.test.points
    about = f"{type(model).__name__} on {data.provenance()['name']}" + (f", step {steps:,}" if steps else "")
    titled = about if nll is None else f"{about}, {with_nll('test', nll)}"
    figures = {"samples": sample_figure(data, samples, test, f"Samples: {titled}")}
    levels = () if log_densities is None else _levels(data, log_densities[1])
    if data.test.context is None:
        known, law = None if density is None else (density.nodes, density.log_density), model.rough().log_prob
        try:
            title = f"Density: {titled}"
            figures["density"] = density_figure(model, data, law, title, test, known=known, levels=levels)
        except SolveError as error:
            # far from the data, where nothing is scored
            warnings.warn(f"There is no picture of the density: {error}", stacklevel=2)
        if model.manifold.shape == (2,) and model.manifold.dim == 2:
            figures |= _draw_dynamics(data, model.dynamics(test[:_DOTS], seed=0), about)
    if log_densities is not None:
        places, title = len(data.test_places().unique()), f"Calibration: {about}"
        figures["calibration"] = plots.calibration(*log_densities, places, title)
    figures |= _draw_latents(data, latents, test, about)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _levels(data: ManifoldData, draws: Tensor) -> tuple[tuple[str, float], ...]:
    """Those of the regions that are usual for the data, as far as there are draws beyond their edges."""
    return plots.density_levels(draws, [share for share in data.coverages if (1 - share) * len(draws) > 1 - 1e-6])


def _figure(axes: Axes | None) -> Figure | None:
    """That of axes alone."""
    return None if axes is None else axes.figure  # type: ignore[return-value]


def _draw_dynamics(data: ManifoldData, dynamics: Dynamics | None, about: str) -> dict[str, Figure]:
    """In the plane: data that turn into noise, the ways back, and the score where the data are."""
    if dynamics is None:
        return {}
    points = data.test.points
    low, high = points.min(0).values, points.max(0).values
    margin = 0.25 * (high - low).max()
    x, y = (torch.linspace(float(a - margin), float(b + margin), _FIELD) for a, b in zip(low, high, strict=True))
    grid = torch.cartesian_prod(x, y).to(dynamics.noised)
    last = len(dynamics.times) - 1
    times = dynamics.times[sorted({round(share * last) for share in _FIELD_TIMES})]
    fields = [dynamics.score(t, grid).reshape(_FIELD, _FIELD, 2).transpose(0, 1).cpu() for t in times]
    paths = {name: path.cpu() for name, path in dynamics.paths.items()}
    return {
        "noising": plots.snapshots(dynamics.noised.cpu(), dynamics.times.tolist(), f"Noising of test points: {about}"),
        "paths": plots.trajectories(paths, points, f"Ways to samples: {about}"),
        "score": plots.score_fields(x, y, torch.stack(fields), times.tolist(), f"Score: {about}", data.header),
    }


def _draw_latents(data: ManifoldData, latents: dict[str, Latents], test: Tensor, about: str) -> dict[str, Figure]:
    """Each law of a latent variable, by the mean of its coordinates; points beside those that are made of it."""
    if not latents:
        return {}
    points = test[: len(next(iter(latents.values())).x)]
    means = {name: draws.z.mean(1).cpu() for name, draws in latents.items()}
    name = "mean of the coordinates of $z$"
    figures = {"latents": plots.latent_histograms(means, name, f"Latent variable z: {about}").figure}
    if data.manifold.shape == (2,):
        made = {f"z ~ {name}": draws.x.cpu() for name, draws in latents.items()}
        figures["decoded"] = plots.plane_laws({"test": points, **made}, f"Points made of z: {about}", data.header)
    again = next((draws.x for draws in latents.values() if draws.reconstructed), None)
    if data.image_shape is not None and again is not None:
        pairs = torch.stack([points.to(again), again], 1).flatten(0, 1)[:IMAGES].unflatten(1, data.image_shape)
        title = f"Test pictures and their reconstructions, in turn: {about}"
        figures["reconstructions"] = plots.image_grid(pairs.cpu(), 8, title=title).figure
    return figures
