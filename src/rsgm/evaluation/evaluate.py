"""From a model, or its checkpoint, to numbers and figures: the only road, for every command alike."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from rsgm import plots
from rsgm.data import ManifoldData
from rsgm.evaluation.baseline import KernelBaseline, density_integral, kernel_density, why_no_kernels
from rsgm.evaluation.class_figures import draw_classes
from rsgm.evaluation.curves import read_curves
from rsgm.evaluation.figures import IMAGES, contexts_in_turn, contexts_like, draw, sample_like
from rsgm.evaluation.named_data import load_data
from rsgm.files import make_folder, new_file, new_text, numbered
from rsgm.likelihood import Draws
from rsgm.manifolds import Manifold
from rsgm.metrics import Integral, bits_per_dim, compare, compare_points, summary
from rsgm.models import GenerativeModel, Latents, load, read_checkpoint
from rsgm.progress import say, visible

#: in a megabyte, of what the system counts peak memory in: bytes on macOS, kilobytes elsewhere
_PEAK_UNITS = 2**20 if sys.platform == "darwin" else 2**10


class Evaluation(NamedTuple):
    """What `score` found.

    Fields:
        metrics: numbers, as plain data; docs/numbers.md says what each of them means
        draws: samples ``(n, *shape)``, given the contexts of the test points, in turn, with their log-densities
        density: the integral of the density and the values that it is made of; None where it was not taken
        latents: draws of the latent variable, for the first of the test points
        log_density: of the test points, ``(n,)``, nats
        kernel_log_density: of the same points under the kernel density, the baseline; None where there is none
    """

    metrics: dict[str, Any]
    draws: Draws
    density: Integral | None
    latents: dict[str, Latents]
    log_density: Tensor
    kernel_log_density: Tensor | None


class Assessment(NamedTuple):
    """A checkpoint that was evaluated.

    Fields:
        model: of the checkpoint
        data: which it was scored on
        found: by `score`
        metrics: what ``metrics.json`` holds, the numbers of `score` and where they come from
        figures: by name
        record: of the checkpoint, but for its training points
    """

    model: GenerativeModel
    data: ManifoldData
    found: Evaluation
    metrics: dict[str, Any]
    figures: dict[str, Figure]
    record: dict[str, Any]


def score(model: GenerativeModel, data: ManifoldData, samples: int = 2000) -> Evaluation:
    """Score a model on the test part of its data. Nothing is written.

    Arguments:
        model: the law, on the device where it is to be computed
        data: whose train part the baselines see
        samples: at least two, of pictures 64 at most; they are scored by the model's own density, make the picture,
            and are held against the test points and against a known law

    Raises:
        SolveError: if a likelihood could not be computed
        ValueError: if a log-density is not finite, and for fewer than two samples
    """
    if samples < 2:
        raise ValueError(f"score: at least 2 samples are needed, found {samples}.")
    data.prepare_data()
    data.setup()
    if data.image_shape is not None:
        samples = min(samples, IMAGES)
    test = data.test.points.to(model.device)
    context = None if data.test.context is None else data.test.context.to(model.device)
    say(f"1/6 likelihood of {len(test):,} test points")
    found = model.likelihoods(test, context)
    bound = model.lower_bound(test, context)
    twins, over = data.twins(), _Over(data.test_places(), data.part_weights("test"))
    say(f"2/6 {samples:,} samples, and their likelihood by a rougher solve")
    draws = _score(model, sample_like(model, data.test, samples), data)
    say("3/6 kernel density of the same points, the baseline")
    kde = kernel_density(model.manifold, data)
    kernels = None if kde is None else kde.log_density(data.test.points, data.test.context)
    say("4/6 integral of the density")
    density = density_integral(model, data, draws)
    say("5/6 metrics of the samples")
    given = contexts_in_turn(data.test, samples)
    others = {} if kde is None else {"kernel_density": kde.sample(samples, given)}
    truth, law = data.true_log_prob(data.test.points, data.test.context), data.reference_law
    bits = None if data.levels is None else partial(bits_per_dim, dim=data.manifold.dim, levels=data.levels)
    latents = model.latents(data.test.points[:samples], seed=0)
    provenance = data.provenance()
    metrics = {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "manifold": str(model.manifold),
        "split": provenance.pop("split"),
        "data": provenance,
        "nll": over.summary(-found.value),
        "nll_without_twins": over.summary(-found.value, ~twins),
        "nll_per_unit": over.summary(-found.value.cpu() - data.log_unit(data.test.points))
        if _standardised(data)
        else None,
        "nll_exact": found.exact,
        "effective_draws": None if found.draws is None else _effective(found.draws),
        "sample_nll": summary(-draws.log_density),
        "nll_bound": None if bound is None else over.summary(-bound.value),
        "normalisation": density.value if density is not None and density.measured else None,
        "normalisation_error": None if density is None else density.standard_error,
        "normalisation_method": None if density is None else density.method,
        "nfe": found.nfe,
        "solver": found.solver,
        "resolution": resolution(model, data),
        "baselines": _baselines(model.manifold, data, kde, kernels, over),
        "perfect_model": None if truth is None else over.summary(-truth),
        "nll_gap": None if truth is None else over.summary(truth - found.value.cpu()),
        "bits_per_dim": None if bits is None else over.summary(bits(-found.value)),
        "bits_per_dim_bound": None if bits is None or bound is None else over.summary(bits(-bound.value)),
        "sample_metrics": compare_points(
            model.manifold, draws.points, data.reference_points(), data.fresh_points, others
        ),
        "samples": None if law is None else compare(draws.points, law),
        "latents": {
            name: {"std": float(some.z.std()), "samples": None if law is None else compare(some.x, law)}
            for name, some in latents.items()
        },
    }
    return Evaluation(metrics, draws, density, latents, found.value.double().cpu(), kernels)


def evaluate(
    path: str | Path,
    data: ManifoldData | None = None,
    samples: int = 2000,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Score a checkpoint on its test split; write ``metrics.json`` and ``figures/`` beside it.

    Arguments: see `assess`

    Returns:
        what ``metrics.json`` holds: the numbers of `score`, and where they come from

    Raises:
        TypeError, FileNotFoundError, CheckpointError, SolveError, ValueError: see `assess`
    """
    found = assess(path, data, samples, device)
    write(Path(path).parent, found.metrics, found.figures)
    return found.metrics


def assess(
    path: str | Path,
    data: ManifoldData | None = None,
    samples: int = 2000,
    device: torch.device | str = "cpu",
) -> Assessment:
    """Score a checkpoint on its test split and draw the figures. Nothing is written.

    Arguments:
        path: the checkpoint
        data: where the checkpoint does not name its data
        samples: see `score`
        device: where to compute

    Raises:
        TypeError: for a model in the place of its checkpoint
        FileNotFoundError, CheckpointError: see `rsgm.models.read_checkpoint`
        SolveError, ValueError: see `score`
    """
    if isinstance(path, nn.Module):
        raise TypeError(
            f"evaluate: expected the path of a checkpoint, found the model {type(path).__name__}; save it first "
            "(model.save), or call rsgm.evaluation.score(model, data), which writes nothing."
        )
    path, wall, cpu = Path(path), time.perf_counter(), time.process_time()
    checkpoint = read_checkpoint(path)
    if data is None:
        data = load_data(checkpoint)
    model, training = load(path, device), checkpoint["rsgm"].get("training") or {}
    with visible():
        found = score(model, data, samples)
        say("6/6 figures")
        nll = found.metrics["nll"]["mean"]
        steps, known = training.get("steps"), (found.log_density, found.draws.log_density)
        figures = draw(model, data, found.density, found.latents, found.draws.points, steps, nll, known)
        figures |= draw_classes(model, data, found.draws)
        if curves := read_curves(path.parent):
            figures["training"] = plots.training_curves(curves, f"Training: {type(model).__name__} on {data.title}")
    metrics = found.metrics | {
        "model": checkpoint["rsgm"]["model"]["class_path"],
        "steps": steps,
        "training_points": {"model": training.get("points"), "kernel_density": len(data.train.points)},
        "seed": checkpoint["rsgm"].get("seed"),
        "validation": checkpoint["rsgm"].get("validation"),
        "checkpoint": path.name,
        "seconds": {
            "training": {key: training.get(key) for key in ("wall", "cpu")},
            "evaluation": {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu},
        },
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _PEAK_UNITS,
        "versions": _versions(),
    }
    record = {key: value for key, value in checkpoint["rsgm"].items() if key != "reference"}
    return Assessment(model, data, found, metrics, figures, record)


def _score(model: GenerativeModel, drawn: Tensor, data: ManifoldData) -> Draws:
    """Samples as points of the manifold in double precision, with their log-densities, each under its own context."""
    points = model.manifold.projx(drawn.double())
    context = contexts_like(model, data.test, len(points))
    return Draws(points.cpu(), model.rough().likelihoods(points, context).value.cpu())


def _effective(draws: Tensor) -> dict[str, float]:
    return {"mean": float(draws.mean()), "least": float(draws.min())}


def resolution(model: GenerativeModel, data: ManifoldData | None) -> dict[str, float] | None:
    """The smallest scale that a model of data resolves, in the units of its manifold, or in standard deviations of
    standardised columns; None where there is no such limit."""
    finest = model.resolution()
    if finest is None:
        return None
    if model.manifold.angular:
        return {"radians": finest, "degrees": math.degrees(finest)}
    return {"data_units" if data is None or not _standardised(data) else "standard_deviations": finest}


def _standardised(data: ManifoldData) -> bool:
    """Whether columns are numbers of which points are made by a scale of training."""
    return bool(data.log_unit(data.train.points[:1]).any())


class _Over(NamedTuple):
    """What means over test points are taken by: their places and weights."""

    places: Tensor
    weights: Tensor | None

    def summary(self, values: Tensor, kept: Tensor | None = None) -> dict[str, Any] | None:
        """That of values (n,), or of those that are kept."""
        values = values.detach().cpu()
        kept = torch.ones(len(values), dtype=torch.bool) if kept is None else kept
        return summary(values[kept], self.places[kept], None if self.weights is None else self.weights[kept])


def _baselines(
    manifold: Manifold, data: ManifoldData, kde: KernelBaseline | None, kernels: Tensor | None, over: _Over
) -> dict[str, Any]:
    uniform = None if math.isinf(manifold.log_volume) else manifold.log_volume
    if kde is None or kernels is None:
        return {"uniform": uniform, "kernel_density": None, "no_kernel_density": why_no_kernels(manifold, data)}
    row = {
        "nll": over.summary(-kernels),
        "nll_without_twins": over.summary(-kernels, ~data.twins()),
        "min_width_radians" if manifold.angular else "min_width": min(part.min_width for part in kde.parts),
        "classes": None if kde.classes is None else len(kde.classes.names),
    }
    return {"uniform": uniform, "kernel_density": row, "no_kernel_density": None}


def _versions() -> dict[str, str | None]:
    names = ("rsgm", "torch", "pytorch_lightning", "torchdiffeq", "geoopt", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    # an installed package may lie within a repository of something else, which does not know its files
    known = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return {"python": platform.python_version(), **found, "git": _git("rev-parse", "HEAD") if known else None}


def _git(*arguments: str) -> str | None:
    """What git answers beside this file; None where it fails, and where there is no git."""
    try:
        run = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return run.stdout.strip() or None


def write(folder: Path, metrics: dict[str, Any], figures: dict[str, Figure]) -> None:
    """Into ``figures`` and ``metrics.json``, or, where they exist, the first free number.

    The numbers come last: where they are, the evaluation was finished.

    Raises:
        WriteError: see `rsgm.files.new_file`; nothing is left of this evaluation
    """
    for numbers, pictures in zip(numbered(folder / "metrics.json"), numbered(folder / "figures"), strict=True):
        if not numbers.exists() and not pictures.exists():
            # another evaluation may be as far
            with suppress(FileExistsError):
                return _write(numbers, metrics, pictures, figures)


def _write(numbers: Path, metrics: dict[str, Any], pictures: Path, figures: dict[str, Figure]) -> None:
    """Under these names."""
    if figures:
        make_folder(pictures)
    try:
        for name, figure in figures.items():
            with new_file(pictures / f"{name}.png") as partial:
                figure.savefig(partial, format="png")
        new_text(numbers, json.dumps(metrics, indent=2) + "\n")
    except OSError:
        if figures:
            shutil.rmtree(pictures, ignore_errors=True)
        raise
