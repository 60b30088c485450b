"""What the commands print of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rsgm.metrics import LARGEST_ERROR

#: how a report calls the metrics
NAMES = {
    "sliced_w2": "sliced W2",
    "sliced_w1": "sliced W1",
    "energy_distance": "energy distance",
    "squared_mmd": "squared MMD",
    "energy_gap": "mean -log p - entropy (nats)",
    "median_gap": "median -log p - entropy (nats)",
}

#: how a report calls those of samples against test points
POINT_NAMES = {
    "mmd": "MMD",
    "nearest_neighbour_accuracy": "1-NN accuracy",
    "coverage": "coverage",
    "w2": "W2",
}


def with_error(value: float, error: float | None, digits: int = 4) -> str:
    """A number, and its standard error where there is one."""
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.4f}")


def why_not_measured(error: float) -> str:
    """What keeps an integral with this standard error from being reported."""
    return f"its standard error is {error:.3f}" if error > LARGEST_ERROR else "few nodes have nearly all of it"


def scale_text(scale: Mapping[str, float], angle: str = ".4g") -> str:
    """A smallest scale in words, an angle in digits of a format."""
    if "degrees" in scale:
        return f"{scale['degrees']:{angle}} degrees"
    kinds = {"data_units": "units of the data", "standard_deviations": "standard deviations of each column"}
    return next(f"{scale[key]:.4g} {name}" for key, name in kinds.items() if key in scale)


def counts_text(row: Mapping[str, Any]) -> str:
    """How many points an entry of `metrics.json` is a mean of."""
    places = "" if row["places"] == row["n"] else f" of {row['places']} places"
    return f"{row['n']} points{places}"


def integral_text(metrics: Mapping[str, Any], digits: int) -> str:
    """The integral of a density that has been tried, or why there is none."""
    value, error = metrics["normalisation"], metrics["normalisation_error"]
    return f"not measured, {why_not_measured(error)}" if value is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def mean_with_error(row: Mapping[str, Any] | None) -> str:
    """That of an entry of `metrics.json` with its standard error."""
    return "none" if row is None else with_error(row["mean"], row["standard_error"])


def report(metrics: dict[str, Any]) -> str:
    """The lines that the commands print."""

    def line(name: str, value: dict[str, Any] | None) -> str:
        if value is None:
            return f"{name:<34} none"
        shown = with_error(value["mean"], value["standard_error"], 10)
        return f"{name:<34} {shown}  ({counts_text(value)})"

    split, data = metrics["split"], metrics["data"]
    kde = metrics["baselines"]["kernel_density"]
    lines = [
        f"{data['name']}: {data['rows']} rows, {data['distinct_rows']} distinct"
        + (f", from {data['source']}" if data["source"] else ""),
        *_parts(data),
        f"split {split['protocol']}, seed {split['seed']}, {100 * split['twin_share']:.1f} % of the test points are "
        "also train points",
        line(f"test NLL{kind_of(metrics)} (nats)", metrics["nll"]),
        *([line("  by the units of the columns", metrics["nll_per_unit"])] if metrics["nll_per_unit"] else []),
        line("  without twins", metrics["nll_without_twins"]),
        line("  mean -log p of the model's samples", metrics["sample_nll"]),
    ]
    if kde is None:
        lines.append(f"{'  kernel density':<34} none: {metrics['baselines']['no_kernel_density']}")
    elif kde["nll"] == metrics["nll"]:
        lines.append(f"{'  kernel density, same points':<34} the same: the model is this one")
    else:
        each = f", one for each of {kde['classes']} classes" if kde["classes"] else ""
        lines += [
            line("  kernel density, same points", kde["nll"]) + each,
            line("  kernel density, without twins", kde["nll_without_twins"]),
        ]
    points = metrics.get("training_points")  # which only a checkpoint says
    if points and kde and points["model"] not in (None, points["kernel_density"]):
        lines.append(
            "  unequal data: trained on {model} points, the kernel density on {kernel_density}".format(**points)
        )
    if metrics["nll_bound"]:
        lines.append(line("  upper bound, same points", metrics["nll_bound"]))
    if metrics["perfect_model"]:
        lines.append(line("  perfect model, same points", metrics["perfect_model"]))
        lines.append(line("  gap to it, point by point", metrics["nll_gap"]))
    if metrics["bits_per_dim"]:
        lines.append(line(f"bits per dimension{kind_of(metrics)}", metrics["bits_per_dim"]))
    if metrics["bits_per_dim_bound"]:
        lines.append(line("  upper bound, same points", metrics["bits_per_dim_bound"]))
    if metrics["baselines"]["uniform"] is not None:
        lines.append(f"{'  uniform':<34} {metrics['baselines']['uniform']:.4f}")
    if metrics["normalisation_error"] is not None:
        text = f"{integral_text(metrics, 5)}  ({metrics['normalisation_method']})"
        lines.append(f"{'integral of the density':<34} {text}")
    if metrics["resolution"]:
        lines.append(f"{'smallest resolved scale':<34} {scale_text(metrics['resolution'], '.4f')}")
    if metrics["effective_draws"]:
        draws = metrics["effective_draws"]
        lines.append(
            f"{'effective draws for each point':<34} {draws['mean']:.0f} in the mean, {draws['least']:.1f} at least"
        )
    if metrics["solver"]:
        solver = ", ".join(str(value) for value in metrics["solver"].values())
        lines.append(f"{'field evaluations':<34} {metrics['nfe']:.0f}  ({solver})")
    lines += [] if metrics["sample_metrics"] is None else [points_line(metrics["sample_metrics"])]
    lines += [] if metrics["samples"] is None else sample_report(metrics["samples"])
    for name, row in metrics["latents"].items():
        made = "" if row["samples"] is None else f"; sliced W2 of the points {row['samples']['sliced_w2']['value']:.5f}"
        lines.append(f"{f'  z ~ {name}':<34} standard deviation {row['std']:.4f}{made}")
    return "\n".join(lines)


def _parts(data: dict[str, Any]) -> list[str]:
    """Of data in tables: parts from files of their own, and what rows count."""
    weight = data.get("weight")
    parts = [f"{name} part from {path}" for name, path in data.get("files", {}).items()]
    return parts if weight is None else [*parts, f"means are weighted by {weight}"]


def kind_of(metrics: Mapping[str, Any]) -> str:
    """What the log-density is, where it is not exact."""
    if metrics["nll_exact"]:
        return ""
    return ", at most" if metrics["effective_draws"] is None else ", estimate"


def points_line(found: dict[str, Any]) -> str:
    """What `compare_points` found, in a line, with the floor beside each value."""
    rows = {name: found[key] for key, name in POINT_NAMES.items()}
    text = ", ".join(f"{name} {row['value']:.3f} ({row['floor']:.3f})" for name, row in rows.items())
    return f"{'samples; in brackets fresh data':<34} {text}"


def sample_report(found: dict[str, Any]) -> list[str]:
    """What `compare` found, one printed line each, with the floor beside the value."""

    def line(name: str, value: float, floor: float, floor_sd: float) -> str:
        return f"{name:<34} {value:.5f}  (floor {floor:.5f} ± {floor_sd:.5f})"

    lines = [f"{found['n']} samples against {found['references']} draws of the law, of as many points"]
    lines += [line(f"  {name}", **found[key]) for key, name in NAMES.items()]
    for k, row in enumerate(zip(*found.get("mode_weights", {}).values(), strict=True)):
        lines.append(line(f"  share of mode {k}", *row))
    return lines
