"""From a checkpoint to numbers and figures: the only road, for `train.py` and `evaluate.py` alike."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from rsgm import plots
from rsgm.data import ManifoldData
from rsgm.data.earth import to_degrees
from rsgm.description import build
from rsgm.metrics import Integral, bits_per_dim, compare, integral, sample_report, summary
from rsgm.models import CheckpointError, GenerativeModel, KernelDensity, load, read_checkpoint

#: most train, and most test, points on a map
_DOTS = 2000


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
        samples: points in the sample map, and samples that are held against a known law
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
    score = model.likelihood(test, None if data.test.context is None else data.test.context.to(device))
    twins = data.twins().to(device)
    density = _integral(model, data)
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
        "normalisation": None if density is None else density.value,
        "nfe": score.nfe,
        "solver": model.solver(),
        "resolution": _resolution(model.resolution()),
        "baselines": _baselines(model.manifold, data),
        "checkpoint": path.name,
    }
    metrics["split"] = metrics["data"].pop("split")
    truth = data.true_log_prob(data.test.points, data.test.context)
    metrics["perfect_model"] = None if truth is None else summary(-truth)
    metrics["nll_gap"] = None if truth is None else summary(truth - score.value.cpu())
    metrics["bits_per_dim"] = (
        None if data.levels is None else summary(bits_per_dim(-score.value, model.manifold.dim, data.levels))
    )
    law = data.reference_law
    metrics["samples"] = None if law is None else compare(model.sample(samples, seed=0), law)
    figures = _draw(model, data, density, samples)
    metrics["seconds"] = {
        "training": {key: training.get(key) for key in ("wall", "cpu")},
        "evaluation": {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu},
    }
    metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    metrics["versions"] = _versions()
    _write(path.parent, metrics, figures)
    return metrics


def report(metrics: dict[str, Any]) -> str:
    """The lines that the commands print."""

    def line(name: str, value: dict[str, Any] | None) -> str:
        if value is None:
            return f"{name:<34} none"
        error = "" if value["standard_error"] is None else f" ± {value['standard_error']:.4f}"
        return f"{name:<34} {value['mean']:.10f}{error}  ({value['n']} points)"

    split, data = metrics["split"], metrics["data"]
    kde = metrics["baselines"]["kernel_density"] or {"nll": None, "nll_without_twins": None}
    lines = [
        f"{data['name']}: {data['rows']} rows, {data['distinct_rows']} distinct, from {data['source']}",
        f"split {split['protocol']}, seed {split['seed']}, {100 * split['twin_share']:.1f} % of the test points are "
        "also train points",
        line("test NLL (nats)", metrics["nll"]),
        line("  without twins", metrics["nll_without_twins"]),
        line("  kernel density, same points", kde["nll"]),
        line("  kernel density, without twins", kde["nll_without_twins"]),
    ]
    if metrics["perfect_model"]:
        lines.append(line("  perfect model, same points", metrics["perfect_model"]))
        lines.append(line("  gap to it, point by point", metrics["nll_gap"]))
    if metrics["bits_per_dim"]:
        lines.append(line("bits per dimension", metrics["bits_per_dim"]))
    if metrics["baselines"]["uniform"] is not None:
        lines.append(f"{'  uniform':<34} {metrics['baselines']['uniform']:.4f}")
    if metrics["normalisation"] is not None:
        lines.append(f"{'integral of the density':<34} {metrics['normalisation']:.5f}")
    if metrics["resolution"]:
        lines.append(f"{'smallest resolved scale':<34} {metrics['resolution']['degrees']:.4f} degrees")
    if metrics["solver"]:
        solver = metrics["solver"]
        lines.append(
            f"{'field evaluations':<34} {metrics['nfe']:.0f}  ({solver['method']}, {solver['tolerance']:g}, "
            f"{solver['dtype']})"
        )
    return "\n".join(lines + ([] if metrics["samples"] is None else sample_report(metrics["samples"])))


def _integral(model: GenerativeModel, data: ManifoldData) -> Integral | None:
    """By the same function as the likelihood; None where there is no quadrature, and for conditional densities."""
    if not model.manifold.unit_cube_extent or data.test.context is not None:
        return None
    return integral(lambda x: model.likelihood(x.to(model.device)).value, model.manifold, data.train.points)


def _resolution(radians: float | None) -> dict[str, float] | None:
    return None if radians is None else {"radians": radians, "degrees": math.degrees(radians)}


def _baselines(manifold: Any, data: ManifoldData) -> dict[str, Any]:
    if math.isinf(manifold.log_volume):
        return {"uniform": None, "kernel_density": None}
    if data.test.context is not None:
        return {"uniform": manifold.log_volume, "kernel_density": None}
    kde = KernelDensity(manifold)
    kde.fit_points(data.train.points, data.val.points)
    nll = -kde.likelihood(data.test.points).value
    row = {
        "nll": summary(nll),
        "nll_without_twins": summary(nll[~data.twins()]),
        "min_width_radians": kde.min_width,
    }
    return {"uniform": manifold.log_volume, "kernel_density": row}


def _draw(model: GenerativeModel, data: ManifoldData, density: Integral | None, samples: int) -> dict[str, Figure]:
    """Maps, where the points lie on S²."""
    if model.manifold.shape != (3,) or density is None:
        return {}
    train, test = (to_degrees(part.points[:_DOTS]) for part in (data.train, data.test))
    longitude, latitude, values = plots.interpolate(to_degrees(density.nodes), density.log_density.numpy())
    return {
        "density": plots.density_map(longitude, latitude, values, train, test),
        "samples": plots.sample_map(to_degrees(model.sample(samples, seed=0)), test),
    }


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
