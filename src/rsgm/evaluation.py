"""From a checkpoint to numbers and figures: the only road, for `train.py` and `evaluate.py` alike."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import platform
import resource
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rsgm import plots
from rsgm.data import ManifoldData, Split
from rsgm.description import build
from rsgm.likelihood import SolveError
from rsgm.manifolds import Manifold
from rsgm.metrics import Integral, bits_per_dim, compare, integral, sampled_integral, summary
from rsgm.models import CheckpointError, GenerativeModel, KernelDensity, Latents, load, read_checkpoint
from rsgm.seeding import generator_from

#: most train, and most test, points in a picture
_DOTS = 2000
#: draws of the importance sampling of the integral; evaluations of its quadrature, known peaks apart
_NODES, _CELLS, _KNOWN = 4000, 12_000, 4000
#: largest dimension of a manifold without a uniform law where kernels still say something
_KERNEL_DIM = 6
#: most images in a picture
_IMAGES = 64


def load_data(checkpoint: dict[str, Any]) -> ManifoldData:
    """The data module that a checkpoint was trained on, set up.

    Raises:
        CheckpointError: where the checkpoint does not say, or the data have changed since
    """
    description = checkpoint["rsgm"].get("data")
    if description is None:
        raise CheckpointError("The checkpoint does not name its data; pass a data module to evaluate.")
    data = build(description, ManifoldData)
    data.prepare_data()
    data.setup()
    expected = checkpoint["rsgm"].get("fingerprint", data.fingerprint)
    if data.fingerprint != expected:
        raise CheckpointError(
            f"The data or their splits have changed since training: found the fingerprint {data.fingerprint} of "
            f"{data.provenance()['source']}, expected {expected}. Bring back the file of then, or pass other data to "
            "rsgm.evaluate."
        )
    return data


def evaluate(
    path: str | Path,
    data: ManifoldData | None = None,
    samples: int = 2000,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Score a checkpoint on its test split; write ``metrics.json`` and ``figures/`` beside it.

    Arguments:
        path: the checkpoint
        data: where the checkpoint does not name its data
        samples: points in the picture of samples, which are also held against a known law
        device: where to compute

    Returns:
        what ``metrics.json`` holds; the fields are those of the README's section on metrics

    Raises:
        SolveError: if a likelihood could not be computed
    """
    path = Path(path)
    wall, cpu = time.perf_counter(), time.process_time()
    checkpoint = read_checkpoint(path)
    data = data or load_data(checkpoint)
    model = load(path, device)
    test = data.test.points.to(device)
    context = None if data.test.context is None else data.test.context.to(device)
    score, bound = model.likelihood(test, context), model.lower_bound(test, context)
    twins = data.twins().to(device)
    kde = _kernel_density(model.manifold, data)
    density = _integral(model, data, kde)
    training = checkpoint["rsgm"].get("training", {})
    metrics: dict[str, Any] = {
        "model": checkpoint["rsgm"]["model"]["class_path"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": training.get("steps"),
        "seed": checkpoint["rsgm"]["seed"],
        "manifold": str(model.manifold),
        "data": data.provenance(),
        "nll": summary(-score.value),
        "nll_without_twins": summary(-score.value[~twins]),
        "nll_exact": score.exact,
        "nll_bound": None if bound is None else summary(-bound.value),
        "normalisation": None if density is None else density.value,
        "normalisation_error": None if density is None else density.standard_error,
        "nfe": score.nfe,
        "solver": model.solver(),
        "resolution": _resolution(model.resolution()),
        "baselines": _baselines(model.manifold, data, kde),
        "checkpoint": path.name,
    }
    metrics["split"] = metrics["data"].pop("split")
    truth = data.true_log_prob(data.test.points, data.test.context)
    metrics["perfect_model"] = None if truth is None else summary(-truth)
    metrics["nll_gap"] = None if truth is None else summary(truth - score.value.cpu())
    bits = None if data.levels is None else functools.partial(bits_per_dim, dim=data.manifold.dim, levels=data.levels)
    metrics["bits_per_dim"] = None if bits is None else summary(bits(-score.value))
    metrics["bits_per_dim_bound"] = None if bits is None or bound is None else summary(bits(-bound.value))
    law = data.reference_law
    metrics["samples"] = None if law is None else compare(sample_like(model, data.test, samples), law)
    points = data.test.points[:samples]
    latents = model.latents(points, seed=0)
    metrics["latents"] = {
        name: {"std": float(draws.z.std()), "samples": None if law is None else compare(draws.x, law)}
        for name, draws in latents.items()
    }
    figures = {**_draw(model, data, density, samples), **_draw_latents(data, latents, points)}
    metrics["seconds"] = {
        "training": {key: training.get(key) for key in ("wall", "cpu")},
        "evaluation": {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu},
    }
    metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    metrics["versions"] = _versions()
    _write(path.parent, metrics, figures)
    return metrics


def _kernel_density(manifold: Manifold, data: ManifoldData) -> KernelDensity | None:
    """The yardstick, fitted; None for conditional data, and beyond six dimensions where there is no uniform part."""
    compact = math.isfinite(manifold.log_volume)
    if data.test.context is not None or not (compact or manifold.dim <= _KERNEL_DIM):
        return None
    unit = _spread(manifold, data)
    kde = KernelDensity(manifold) if compact else KernelDensity(manifold, min_width=1e-4 * unit, max_width=unit)
    kde.fit_points(data.train.points, data.val.points)
    return kde


def _spread(manifold: Manifold, data: ManifoldData) -> float:
    """The root mean square distance between training points, and one of them."""
    train = data.train.points
    return float(manifold.dist(train[:1].expand_as(train), train).square().mean().sqrt())


def _integral(model: GenerativeModel, data: ManifoldData, kde: KernelDensity | None) -> Integral | None:
    """By the same function as the likelihood: quadrature up to dimension 2, beyond it importance sampling.

    Half of the proposals are the kernel density's draws, half are uniform, or where there is no uniform law draws of
    wide kernels. None where there is no kernel density.
    """
    if kde is None:
        return None
    if model.manifold.unit_cube_extent and model.manifold.dim <= 2:
        # the places where the density may be sharp; more of them would cost more than they find
        known = data.train.points[:_KNOWN]
        return integral(_log_density(model), model.manifold, known, max_nodes=_CELLS)
    generator, half = generator_from("normalisation"), _NODES // 2
    near = kde.sample(half, seed=0).double()
    if math.isinf(model.manifold.log_volume):
        unit = _spread(model.manifold, data)
        wide = KernelDensity(model.manifold, widths=1, min_width=unit, max_width=unit)
        wide.fit_points(data.train.points, data.val.points)
        nodes = torch.cat([near, wide.sample(half, seed=1).double()])
        rest = wide.likelihood(nodes).value
    else:
        uniform = model.manifold.random_uniform(half, *model.manifold.shape, generator=generator, dtype=torch.float64)
        nodes = torch.cat([near, uniform])
        rest = torch.tensor(-model.manifold.log_volume)
    proposal = torch.logaddexp(kde.likelihood(nodes).value, rest) - math.log(2)
    return sampled_integral(_log_density(model), nodes, proposal)


def _log_density(model: GenerativeModel) -> Callable[[Tensor], Tensor]:
    return lambda x: model.likelihood(x.to(model.device)).value


def _resolution(radians: float | None) -> dict[str, float] | None:
    return None if radians is None else {"radians": radians, "degrees": math.degrees(radians)}


def _baselines(manifold: Manifold, data: ManifoldData, kde: KernelDensity | None) -> dict[str, Any]:
    uniform = None if math.isinf(manifold.log_volume) else manifold.log_volume
    if kde is None:
        return {"uniform": uniform, "kernel_density": None}
    nll = -kde.likelihood(data.test.points).value
    row = {
        "nll": summary(nll),
        "nll_without_twins": summary(nll[~data.twins()]),
        "min_width_radians": kde.min_width,
    }
    return {"uniform": uniform, "kernel_density": row}


def sample_like(model: GenerativeModel, reference: Split, n: int, seed: int | None = 0) -> Tensor:
    """``n`` samples; those of a conditional model given the context of the reference's rows.

    Where there are fewer rows than samples they are taken again from the first.
    """
    context = reference.context
    if context is not None:
        context = context[torch.arange(n) % len(context)].to(model.device)
        context = context.float() if context.is_floating_point() else context
    return model.sample(n, context, seed)


def sample_figure(data: ManifoldData, samples: Tensor, reference: Tensor) -> Figure | None:
    """Samples beside the points that they should resemble; of pictures some samples, as pictures."""
    if data.image_shape is None:
        return plots.draw_samples(data.manifold, samples, reference, data.columns)
    return plots.image_grid(samples[:_IMAGES].unflatten(1, data.image_shape).cpu())


def _draw(model: GenerativeModel, data: ManifoldData, density: Integral | None, samples: int) -> dict[str, Figure]:
    """What `rsgm.plots.views` knows to draw on the manifold; of a conditional model no density."""
    manifold, columns = model.manifold, data.columns
    train, test = (part.rows(torch.arange(min(len(part.points), _DOTS))) for part in (data.train, data.test))
    figures = {"samples": sample_figure(data, sample_like(model, test, samples), test.points)}
    if test.context is None:
        known = None if density is None else (density.nodes, density.log_density)
        try:
            figures["density"] = plots.draw_density(
                manifold, _log_density(model), train.points, test.points, columns, known
            )
        except SolveError as error:
            # far from the data, where nothing is scored
            warnings.warn(f"There is no picture of the density: {error}", stacklevel=2)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _draw_latents(data: ManifoldData, latents: dict[str, Latents], points: Tensor) -> dict[str, Figure]:
    """Each law of a latent variable, by the mean of its coordinates; points beside those that are made of it."""
    if not latents:
        return {}
    means = {name: draws.z.mean(1).cpu() for name, draws in latents.items()}
    figures = {"latents": plots.latent_histograms(means, "mean of the coordinates of $z$")}
    if data.manifold.shape == (2,):
        made = {f"z ~ {name}": draws.x.cpu() for name, draws in latents.items()}
        figures["decoded"] = plots.plane_laws({"data": points, **made})
    again = next((draws.x for draws in latents.values() if draws.reconstructed), None)
    if data.image_shape is not None and again is not None:
        pairs = torch.stack([points.to(again), again], 1).flatten(0, 1)[:_IMAGES].unflatten(1, data.image_shape)
        figures["reconstructions"] = plots.image_grid(pairs.cpu(), 8, title="data and their reconstructions, in turn")
    return figures


def _versions() -> dict[str, str | None]:
    names = ("rsgm", "torch", "pytorch_lightning", "torchdiffeq", "geoopt", "numpy")
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "git": git.stdout.strip() or None}


def _write(folder: Path, metrics: dict[str, Any], figures: dict[str, Any]) -> None:
    """Into ``metrics.json`` and ``figures``, or, where they exist, the first free number."""
    k, suffix = 0, ""
    while (folder / f"metrics{suffix}.json").exists() or (folder / f"figures{suffix}").exists():
        k += 1
        suffix = f"_{k}"
    (folder / f"metrics{suffix}.json").write_text(json.dumps(metrics, indent=2) + "\n")
    if figures:
        (folder / f"figures{suffix}").mkdir()
        for name, figure in figures.items():
            figure.savefig(folder / f"figures{suffix}" / f"{name}.png")
