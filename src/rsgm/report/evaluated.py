"""The page of one evaluation: what was trained on what, the numbers and how to read them, figures, single points."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rsgm import plots
from rsgm.data import ManifoldData
from rsgm.evaluation import Assessment, audit_evaluation
from rsgm.evaluation.claims import HEADINGS
from rsgm.evaluation.figures import contexts_in_turn
from rsgm.evaluation.report import POINT_NAMES, integral_text, kind_of, mean_with_error, scale_text
from rsgm.metrics import density_ranks
from rsgm.plots.style import REFERENCE, SAMPLES
from rsgm.report.page import Cell, Number, escaped, facts, image, page, table
from rsgm.report.views import View, density_picture, palette, views_of

#: most points of one kind on the page; points in either table; pictures in either row
_POINTS, _EXTREMES, _PICTURES = 1500, 10, 16
_TRAIN = "#7a7a7a"
_DPI = 200
#: of a point, beside its columns
_SCORES = ("log p", "less likely draws")
#: of the figures, most important first: what they show, for those who have not seen their kind
CAPTIONS = {
    "density": (
        "The model's density, in nats: a step of 1 is a factor of 2.7. Within a contour lies its share of the model's "
        "law, in the smallest region that holds as much; of dots only some are shown."
    ),
    "samples": "Draws of the model beside the test points, which they should resemble as fresh data would.",
    "calibration": (
        "Left, for each test point, the share of the model's own draws that are less likely than it: even where the "
        "density is right. Much on the left are points that the model would hardly draw; much on the right, a density "
        "wider than the data. Right, the share of test points in regions of highest density over the share that they "
        "should hold. Grey is what chance leaves; repeated places count once."
    ),
    "training": (
        "The loss of training batches (of many the line is a running mean) and the NLL of validation points over the "
        "steps. A validation curve that rises again is overfitting; the checkpoint of the lowest is kept."
    ),
    "density_by_class": "The density given each of the commonest contexts.",
    "samples_by_class": "Draws given each of the commonest contexts, beside the test points that have it.",
    "noising": "Test points while they turn into noise.",
    "paths": "Ways from noise to samples, from circles to dots.",
    "score": "The gradient of the log-density at several times: arrows its direction, colours its norm.",
    "latents": "The latent variable's law before and after training.",
    "decoded": "Points that are made of the latent variable, beside test points.",
    "reconstructions": "Test pictures, each with its reconstruction on the right.",
}


def evaluation_page(assessed: Assessment) -> str:
    """The report on a checkpoint that was assessed, as HTML; nothing is computed again.

    Arguments:
        assessed: by `rsgm.evaluation.assess`
    """
    model, data = type(assessed.model).__name__, str(assessed.metrics["data"]["name"])
    sections = [
        f"<h1>{escaped(model)} on {escaped(data)}</h1>",
        f'<p class="lead">{escaped(_lead(assessed))}</p>',
        _claims(assessed),
        "<h2>Numbers</h2>",
        "<p>Log-densities are natural logarithms (nats), ± is one standard error.</p>",
        table(["", Number("value"), "how to read it"], list(_numbers(assessed.metrics)), "numbers"),
    ]
    views, points = _views(assessed)
    sections += [*views, *_figures(assessed.figures), *_extremes(assessed), *_about(assessed)]
    return page(f"{model} on {data}", "\n".join(sections), points)


# ---- words


def _lead(assessed: Assessment) -> str:
    metrics = assessed.metrics
    sizes = metrics["split"]["sizes"]
    steps = "" if not metrics["steps"] else f"after {metrics['steps']:,} steps of training, "
    sized = f" with {metrics['parameters']:,} parameters" if metrics["parameters"] else ""
    return (
        f"A density on {metrics['manifold']}{sized}, {steps}learned from "
        f"{sizes['train']:,} points and tested on {sizes['test']:,} others (split {metrics['split']['protocol']})."
    )


def _claims(assessed: Assessment) -> str:
    found = audit_evaluation(assessed.model, assessed.data, assessed.found).findings["claims"]
    parts = []
    for verdict, heading in HEADINGS.items():
        texts = [claim["text"] for claim in found if claim["verdict"] == verdict]
        if texts:
            items = "".join(f'<li class="{verdict}">{escaped(text)}</li>' for text in texts)
            parts.append(f'<h3>{heading}</h3><ul class="claims">{items}</ul>')
    return "<h2>What it says</h2>" + "".join(parts)


def _numbers(metrics: Mapping[str, Any]) -> Iterator[list[Cell]]:
    """Rows of a name, a value, and how to read it."""
    baselines, kde = metrics["baselines"], metrics["baselines"]["kernel_density"]
    nll = "Mean of −log p over the test points: lower is better, and it may be below zero. Differences count."
    yield _row(f"test NLL{kind_of(metrics)}", mean_with_error(metrics["nll"]), f"{nll} {_counted(metrics['nll'])}")
    if metrics["nll_per_unit"]:
        text = "The same by the units of the columns, whose numbers are standardised for the model."
        yield _row("by the columns' units", mean_with_error(metrics["nll_per_unit"]), text)
    if metrics["split"]["twin_share"]:
        twins = 100 * metrics["split"]["twin_share"]
        share = f"{twins:.1f} % of the test points are training points too, which a model can remember."
        yield _row("without twins", mean_with_error(metrics["nll_without_twins"]), share)
    if kde is None:
        yield _row("kernel density", "none", f"The baseline cannot be made: {baselines['no_kernel_density']}.")
    elif kde["nll"] == metrics["nll"]:
        yield _row("kernel density", mean_with_error(kde["nll"]), "The baseline; the model is this one.")
    else:
        of = f" One for each of {kde['classes']} classes of contexts." if kde["classes"] else ""
        text = f"What smoothing the training points gives on the same test points: a model should be lower.{of}"
        yield _row("kernel density", mean_with_error(kde["nll"]), text)
        if metrics["split"]["twin_share"]:
            text = "On repeated places a narrow peak costs nothing: compare here."
            yield _row("without twins", mean_with_error(kde["nll_without_twins"]), text)
    if baselines["uniform"] is not None:
        yield _row("uniform law", f"{baselines['uniform']:.4f}", "What a model has that knows nothing.")
    if metrics["perfect_model"]:
        yield _row(
            "perfect model",
            mean_with_error(metrics["perfect_model"]),
            "The law that the data were drawn from: no model is lower on average.",
        )
        yield _row("gap to it", mean_with_error(metrics["nll_gap"]), "By how much the model is worse, point by point.")
    if metrics["nll_bound"]:
        yield _row(
            "upper bound",
            mean_with_error(metrics["nll_bound"]),
            "The NLL is not larger than this bound, of the same points.",
        )
    if metrics["bits_per_dim"]:
        yield _row(
            "bits per dimension",
            mean_with_error(metrics["bits_per_dim"]),
            "The same as code length for each number of a picture.",
        )
    text = "Mean of −log p over the model's own draws. Where it is below the test NLL the model is too sure of itself."
    yield _row("of its own draws", mean_with_error(metrics["sample_nll"]), text)
    if metrics["normalisation_error"] is not None:
        text = f"Must be 1: else −log p is no likelihood. By {metrics['normalisation_method']}."
        yield _row("integral of the density", integral_text(metrics, 4), text)
    if metrics["resolution"]:
        text = "No peak of the model is narrower. Where places repeat, an NLL means little without it."
        yield _row("smallest scale", scale_text(metrics["resolution"]), text)
    if metrics["effective_draws"]:
        draws = metrics["effective_draws"]
        shown = f"{draws['mean']:.0f}, at least {draws['least']:.1f}"
        yield _row("effective draws", shown, "Behind each point's estimate: of few the NLL is unreliable.")
    if metrics["sample_metrics"]:
        readings = {
            "mmd": "Distance of the laws, by kernels: near that of fresh data is as good as it gets.",
            "nearest_neighbour_accuracy": "How well neighbours tell samples from test points; .5 is not at all.",
            "coverage": "Share of the test points near which there is a sample; low where modes are missing.",
            "w2": "Distance by which samples have to be moved to become test points.",
        }
        for key, name in POINT_NAMES.items():
            row = metrics["sample_metrics"][key]
            text = f"{readings[key]} Fresh data have {row['floor']:.3f}."
            yield _row(f"{name} of samples", f"{row['value']:.3f}", text)
    if metrics["nfe"]:
        solver = ", ".join(str(value) for value in (metrics["solver"] or {}).values())
        yield _row("field evaluations", f"{metrics['nfe']:.0f}", f"What the likelihood of the points took ({solver}).")


def _row(name: str, value: str, reading: str) -> list[Cell]:
    return [name, Number(value.replace("-", "−")), reading]


def _counted(row: Mapping[str, Any]) -> str:
    places = "" if row["places"] == row["n"] else f" of {row['places']:,} places, over which the error is counted"
    return f"Over {row['n']:,} points{places}."


# ---- views


class _Set(NamedTuple):
    """Points that are shown, and what is known of them."""

    name: str
    colour: str
    points: Tensor
    context: Tensor | None
    log_density: Tensor | None = None
    names: list[str] | None = None

    def some(self, rows: Tensor) -> _Set:
        """Those of these rows."""
        return self._replace(
            points=self.points[rows],
            context=None if self.context is None else self.context[rows],
            log_density=None if self.log_density is None else self.log_density[rows],
            names=None if self.names is None else [self.names[k] for k in rows.tolist()],
        )


def _views(assessed: Assessment) -> tuple[list[str], dict[str, Any] | None]:
    """The section of views and the points that they show; nothing where the manifold has none."""
    data, found = assessed.data, assessed.found
    draws, given = found.draws, contexts_in_turn(data.test, len(found.draws.points))
    # log-densities of training points are not known, and not computed for a page
    every = [
        _Set("test", REFERENCE, data.test.points, data.test.context, found.log_density, data.test_names()),
        _Set("samples", SAMPLES, draws.points, given, draws.log_density),
        _Set("train", _TRAIN, data.train.points, data.train.context),
    ]
    sets = [part.some(_kept(len(part.points))) for part in every]
    views = views_of(assessed.model.manifold, [part.points for part in sets], data.earth, data.header)
    if not views:
        return [], None
    points = {
        "palette": palette(),
        "header": [*data.header, *data.context_names, *_SCORES],
        "views": _canvases(views, assessed.figures),
        "sets": [
            {
                "name": part.name,
                "colour": part.colour,
                "names": part.names,
                "rows": _values(data, part, draws.log_density),
                "places": [view.places[k].tolist() for view in views],
            }
            for k, part in enumerate(sets)
        ],
    }
    totals = [len(part.points) for part in every]
    coloured = any("density" in canvas for canvas in points["views"])
    counts = [(part.name, part.colour, len(part.points), total) for part, total in zip(sets, totals, strict=True)]
    return _view_section(views, coloured, counts), points


def _kept(n: int) -> Tensor:
    """Which of n points are shown: all, or a fixed random choice, in their order."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(n, generator=generator)[:_POINTS].sort().values


def _canvases(views: Sequence[View], figures: Mapping[str, Figure]) -> list[dict[str, Any]]:
    """One for each canvas; where there is one view, it has the density."""
    found = [
        {"kind": view.kind, "part": part} | dict(options) for part, view in enumerate(views) for options in view.options
    ]
    if len(found) == 1 and found[0]["kind"] in ("globe", "angles") and "density" in figures:
        found[0]["density"] = density_picture(figures["density"])
    return found


def _values(data: ManifoldData, part: _Set, draws: Tensor) -> list[list[str]]:
    """What is said of each point: its columns, its context, and `_SCORES`."""
    rows = [[f"{value:.6g}" for value in row] for row in data.to_units(part.points)]
    contexts = [()] * len(rows) if part.context is None else data.decode_context(part.context)
    scores = [["not computed"] * len(_SCORES)] * len(rows)
    if part.log_density is not None:
        ranks = density_ranks(part.log_density, draws).tolist()
        scores = [[f"{value:.4f}", f"{100 * rank:.1f} %"] for value, rank in zip(part.log_density, ranks, strict=True)]
    return [[*row, *context, *more] for row, context, more in zip(rows, contexts, scores, strict=True)]


def _view_section(views: Sequence[View], coloured: bool, counts: Sequence[tuple[str, str, int, int]]) -> list[str]:
    """Boxes that choose the points, and the canvases; ``coloured`` where one shows the density."""
    hints = {
        "globe": "Drag it, or turn it with the arrow keys.",
        "ball": (
            "Each rotation is a point: the axis that it turns about, as far from the middle as it turns, up to 180° at "
            "the rim, where opposite points are one. Drag the ball, or turn it with the arrow keys."
        ),
        "angles": "Drag a box to mark its points in all panels and to count them; click to let go.",
    }
    lines = ["<h2>Points</h2>", '<div class="tools">']
    for k, (name, colour, shown, total) in enumerate(counts):
        number = f"{total:,}" if shown == total else f"{shown:,} of {total:,}"
        ticked = " checked" if k == 0 else ""
        lines.append(
            f'<label><input type="checkbox" id="set-{k}"{ticked}>'
            '<svg class="swatch" viewBox="0 0 2 2" aria-hidden="true">'
            f'<circle cx="1" cy="1" r="1" fill="{colour}"/></svg>{escaped(name)} ({number})</label>'
        )
    lines.append('</div><div class="views">')
    colours = " Colours are those of the density in the figures below." if coloured else ""
    index = 0
    for view in views:
        for options in view.options:
            names = "{} (across) and {} (up)".format(*options["names"]) if "names" in options else view.title
            turns = ' class="turns"' if view.kind in ("globe", "ball") else ""
            lines.append(
                f'<div class="view"><h3>{escaped(names)}</h3><canvas id="view-{index}"{turns} tabindex="0" role="img" '
                f'aria-label="{escaped(names)}: points, {view.kind}"></canvas>'
                f'<p id="brush-{index}" data-brush aria-live="polite"></p>'
                f'<p class="hint">{hints[view.kind]}{colours}</p></div>'
            )
            index += 1
    return [*lines, '<div class="detail" id="detail" aria-live="polite"></div></div>']


# ---- figures


def _figures(figures: Mapping[str, Figure]) -> Iterator[str]:
    if figures:
        yield "<h2>Figures</h2>"
    order = [*(name for name in CAPTIONS if name in figures), *(name for name in figures if name not in CAPTIONS)]
    for name in order:
        about = CAPTIONS.get(name, name)
        yield f"<figure>{_webp(figures[name], about)}<figcaption>{escaped(about)}</figcaption></figure>"


def _webp(figure: Figure, about: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=_DPI, pil_kwargs={"quality": 80, "method": 4})
    return image(buffer.getvalue(), "webp", about)


# ---- single points


def _extremes(assessed: Assessment) -> Iterator[str]:
    """The test points that are explained worst and best."""
    data, found = assessed.data, assessed.found
    order = found.log_density.argsort()
    whole = _Set("test", REFERENCE, data.test.points, data.test.context, found.log_density, data.test_names())
    yield "<h2>Single points</h2>"
    yield (
        "<p>By their log-density: what the model finds least likely are outliers, errors in the data, or what it has "
        "not learned. “Less likely draws” is the share of the model's own draws that are less likely than the point: "
        "near 0 the model would hardly draw it.</p>"
    )
    for name, rows in (("Worst explained", order[:_EXTREMES]), ("Best explained", order.flip(0)[:_EXTREMES])):
        yield f"<h3>{name}</h3>"
        if data.image_shape is not None:
            rows = rows if len(order) <= _EXTREMES else (order if name[0] == "W" else order.flip(0))[:_PICTURES]
            images = data.test.points[rows].unflatten(1, data.image_shape)
            yield _webp(plots.image_grid(images, 8).figure, f"{name} test pictures, the first is the extreme")
            continue
        part = whole.some(rows)
        numbers = len(data.header)
        head = ["row", *map(Number, data.header), *data.context_names, *map(Number, _SCORES)]
        body = [
            [name, *map(Number, row[:numbers]), *row[numbers:-2], *map(Number, row[-2:])]
            for name, row in zip(part.names or [], _values(data, part, found.draws.log_density), strict=True)
        ]
        yield table(head, body)


# ---- where it comes from


def _about(assessed: Assessment) -> Iterator[str]:
    metrics = assessed.metrics
    data, split, seconds = metrics["data"], metrics["split"], metrics["seconds"]
    training = seconds["training"]["cpu"]
    yield "<h2>Where it comes from</h2>"
    yield facts(
        {
            "data": f"{data['name']}: {data['rows']:,} rows, {data['distinct_rows']:,} distinct",
            "source": data["source"],
            "SHA-256": data["sha256"],
            "columns": ", ".join(assessed.data.header),
            "given to the model": ", ".join(assessed.data.context_names) or None,
            "weighted by": data.get("weight"),
            "split": f"{split['protocol']}, seed {split['seed']}: "
            + ", ".join(f"{name} {size:,}" for name, size in split["sizes"].items()),
            "model": metrics["model"],
            "parameters": f"{metrics['parameters']:,}" if metrics["parameters"] else None,
            "steps": f"{metrics['steps']:,}" if metrics["steps"] else None,
            "seed": metrics["seed"],
            "checkpoint": metrics["checkpoint"],
            "training": None if training is None else f"{training:,.0f} CPU-seconds",
            "evaluation": f"{seconds['evaluation']['cpu']:,.0f} CPU-seconds",
            "versions": ", ".join(f"{name} {version}" for name, version in metrics["versions"].items() if version),
        }
    )
    for name, part in (("Settings of the model", "model"), ("Settings of the data", "data")):
        text = json.dumps(assessed.record.get(part), indent=2, default=str, ensure_ascii=False)
        yield f"<details><summary>{name}</summary><pre>{escaped(text)}</pre></details>"
    text = json.dumps(metrics, indent=2, ensure_ascii=False)
    yield f"<details><summary>All numbers, as in metrics.json</summary><pre>{escaped(text)}</pre></details>"
