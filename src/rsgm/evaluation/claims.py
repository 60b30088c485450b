"""What may be claimed of what `audit` found, in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from scipy import stats

from rsgm.evaluation.report import (
    POINT_NAMES,
    counts_text,
    mean_with_error,
    points_line,
    scale_text,
    why_not_measured,
    with_error,
)

#: how far from one an integral may be, if that is more than three of its standard errors, and how far at least that of
#: no density is: errors of peaked densities are sometimes larger than they are estimated to be
_OFF, _FAR = 0.01, 0.05
#: standard errors, and nats, beyond which a difference is one
_SIGMAS, _NATS = 2.0, 1e-3
#: p-value below which samples and test points differ
_P_VALUE = 0.01
#: places, and samples, fewer of which differ significantly only where they have nothing in common
_FEWEST = 10
#: over the sentences of each verdict
HEADINGS = {"yes": "What may be claimed", "no": "What may not be claimed", "open": "What has not been shown"}
_UNTIL = "Until it is shown, -log p is not known to be a negative log-likelihood."


class Claim(NamedTuple):
    """A sentence, and whether what it says may be claimed: ``yes``, ``no``, or ``open`` where it has not been shown."""

    verdict: str
    text: str


def claims(found: dict[str, Any]) -> list[dict[str, str]]:
    """The sentences that follow from the numbers, as plain data; see `Claim`."""
    parts = (_integral, _twins, _baselines, _scale, _likelihood_of_samples, _calibration, _distances)
    return [claim._asdict() for part in parts for claim in part(found)]


def page(found: dict[str, Any]) -> str:
    """The numbers, then what may be claimed, what may not, and what has not been shown."""
    lines = [f"Audit of {found['of']} on {found['manifold']}"]
    if found["data"] is not None:
        data, split = found["data"], found["data"]["split"]
        lines.append(f"{data['name']}: {data['rows']} rows, {data['distinct_rows']} distinct, from {data['source']}")
        lines.append(f"split {split['protocol']}, seed {split['seed']}, {split['sizes']['test']} test rows")
    lines += ["", *_numbers(found)]
    for verdict, heading in HEADINGS.items():
        texts = [claim["text"] for claim in found["claims"] if claim["verdict"] == verdict]
        lines += ["", heading] if texts else []
        lines += [textwrap.fill(text, 100, initial_indent="- ", subsequent_indent="  ") for text in texts]
    return "\n".join(lines)


def _numbers(found: dict[str, Any]) -> Iterator[str]:
    integral = found["integral"]
    if integral is not None:
        yield f"{'integral of the density':<34} {_value(integral)}  ({integral['method']})"
    names = {
        "nll": "test NLL (nats)",
        "nll_without_twins": "  without twins",
        "kernel_density_nll": "kernel density, same points",
        "kernel_density_nll_without_twins": "  without twins",
        "excess_over_kernel_density": "excess over it, point by point",
        "excess_over_kernel_density_without_twins": "  without twins",
        "sample_nll": "mean -log p of the samples",
    }
    for key, name in names.items():
        row = found[key]
        if row is not None and (found["twin_share"] or not key.endswith("twins")):
            yield f"{name:<34} {mean_with_error(row)}  ({counts_text(row)})"
    if found["uniform"] is not None:
        yield f"{'uniform':<34} {found['uniform']:.4f}"
    if found["calibration"] is not None:
        row = found["calibration"]
        yield f"{'calibration, largest difference':<34} {row['distance']:.3f}  (p-value {row['p_value']:.2g})"
    if found["sample_metrics"] is not None:
        yield points_line(found["sample_metrics"])


def _integral(found: dict[str, Any]) -> Iterator[Claim]:
    integral, what = found["integral"], "That the density integrates to one"
    if integral is None and found["of"] == "samples" and found["sample_nll"] is None:
        yield Claim("open", "Any likelihood: no density was given.")
        return
    if integral is None:
        yield Claim(
            "open",
            f"{what}: log-densities of single points do not tell. Give the density itself (log_prob) with samples, "
            "dozens at least, or its values all over the manifold with the volume of each point (grid). Of "
            "conditional densities only flows are integrated, and in infinite volume others up to six dimensions. "
            f"{_UNTIL}",
        )
        return
    value, error = integral["value"], integral["standard_error"]
    if error is None:
        whole = integral["share_of_volume"]
        if whole is not None and abs(whole - 1) > _OFF:
            text = f"{what}: the volumes that were given add up to {whole:.3f} of the manifold's. {_UNTIL}"
            yield Claim("open", text)
            return
        yield Claim("open", "The error of the integral: a sum over given points misses what lies between them.")
        error = 0.0
    elif not integral["measured"]:
        yield Claim("open", f"{what} was not measured: {why_not_measured(error)}. {_UNTIL}")
        return
    elif value < 1 - max(_OFF, 3 * error) and integral["near"] != "samples":
        yield Claim(
            "open",
            f"{what}: only {_value(integral)} was found. The rest may lie where no data are, in peaks narrower than "
            f"the distance between nodes: give samples, which show them. {_UNTIL}",
        )
        return
    if abs(value - 1) <= max(_OFF, 3 * error):
        text = f"The density integrates to one ({_value(integral)}): its -log p is a negative log-likelihood."
        if error and integral["near"] != "samples":
            text += " Peaks narrower than the distance between nodes would not be seen: samples show them."
        yield Claim("yes", text)
        return
    if abs(value - 1) <= _FAR:
        nats = f"{abs(math.log(value)):.3f} nats"
        text = f"{what} to better than {nats}: it is {_value(integral)}. Differences of NLLs below {nats} say nothing."
        yield Claim("open", text)
        return
    text = (
        f"A likelihood: the integral is {_value(integral)}, not one. This is no density, and its -log p may not be "
        "compared with any NLL."
    )
    if found["nll"] is not None and value > 0:
        nll = found["nll"]["mean"]
        text += f" Divided by its integral it has {nll + math.log(value):.3f} nats in the place of {nll:.3f}."
    yield Claim("no", text)


def _twins(found: dict[str, Any]) -> Iterator[Claim]:
    share, nll, rest = found["twin_share"], found["nll"], found["nll_without_twins"]
    if found["data"] is not None and not found["data"]["own_split"]:
        yield Claim(
            "open",
            "That the test rows are new to it: the points were split here, and what it was fitted to is not known. "
            "Give a data set with the split that it was fitted on.",
        )
    if share is None and nll is not None:
        yield Claim("open", "That the points are new to it, and baselines worse: no training data were given.")
    elif share == 0:
        yield Claim("yes", "No test row is also a training row.")
    elif share is not None:
        share = f"{100 * share:.1f} %"
        text = f"That the test rows are new: {share} are also training rows, on which peaks lower an NLL without bound."
        if nll is not None:
            text += (
                " Without them nothing is left."
                if rest is None
                else f" Quote the NLL without them, {mean_with_error(rest)}."
            )
        yield Claim("no", text)


def _baselines(found: dict[str, Any]) -> Iterator[Claim]:
    excess, nll, on = found["excess_over_kernel_density"], found["nll"], "the test points"
    if found["twin_share"]:
        excess, nll = found["excess_over_kernel_density_without_twins"], found["nll_without_twins"]
        on = "the test points that are new"
    integral, shift, error, it = found["integral"], 0.0, 0.0, "The density"
    if integral is not None and integral["value"] > 0 and any(c.verdict == "no" for c in _integral(found)):
        # a density after all
        shift, error = math.log(integral["value"]), (integral["standard_error"] or 0.0) / integral["value"]
        it = "The density, divided by its integral,"
    if excess is not None and excess["standard_error"] is not None:
        mean, least = excess["mean"] + shift, max(math.hypot(_SIGMAS * error, _margin(excess)), _NATS)
        error = math.hypot(error, excess["standard_error"])
        difference = f"by {abs(mean):.3f} ± {error:.3f} nats on {on}, point by point"
        if mean < -least:
            yield Claim("yes", f"{it} is better than a kernel density {difference}.")
        elif mean > least:
            yield Claim("no", f"An advantage over a kernel density. {it} is worse {difference}.")
        else:
            yield Claim("open", f"An advantage over a kernel density: they differ {difference}.")
    uniform = found["uniform"]
    if uniform is not None and nll is not None and nll["mean"] + shift > uniform:
        yield Claim("no", f"That anything was learned: the uniform law has a lower NLL on {on}, {uniform:.3f}.")


def _scale(found: dict[str, Any]) -> Iterator[Claim]:
    scale, peak = found["resolution"], found["peak_width"]
    if scale is not None:
        yield Claim("yes", f"The smallest scale that it resolves is {scale_text(scale)}; quote the NLL with it.")
    elif peak is not None:
        yield Claim(
            "open",
            "The smallest scale that it resolves, without which an NLL on repeated places means little. At its highest "
            f"test point the density is that of one normal peak of width {peak:.3g}; several peaks are narrower.",
        )


def _likelihood_of_samples(found: dict[str, Any]) -> Iterator[Claim]:
    drawn, tested = found["sample_nll"], found["nll"]
    if drawn is None and tested is not None:
        yield Claim("open", "That samples have this density: there are none with log-densities.")
    if drawn is None or tested is None:
        return
    difference = drawn["mean"] - tested["mean"]
    if drawn["standard_error"] is None or tested["standard_error"] is None:
        yield Claim("open", "That samples are as likely as test points: one alone says nothing of their mean.")
        return
    error = math.hypot(drawn["standard_error"], tested["standard_error"])
    amount = f"by {abs(difference):.3f} ± {error:.3f} nats of mean -log p"
    if abs(difference) <= max(_NATS, _margin(drawn, tested)):
        yield Claim("yes", f"Samples are as likely as test points: they differ {amount}.")
        return
    more, width = ("less", "wider") if difference > 0 else ("more", "narrower")
    overfits = "" if difference > 0 else " (it overfits)"
    yield Claim(
        "no",
        f"That samples are as likely as test points: they are {more} likely {amount}. The density is {width} than the "
        f"data{overfits}, or the sampler draws a {width} law than the density's.",
    )


def _calibration(found: dict[str, Any]) -> Iterator[Claim]:
    row = found["calibration"]
    if row is None:
        return
    text = f"largest difference {row['distance']:.3f}, p-value {row['p_value']:.2g}, {row['places']} places"
    if row["p_value"] >= _P_VALUE and min(row["places"], row["samples"]) < _FEWEST:
        yield Claim("open", f"Calibration, of which so few points say little ({text}).")
    elif row["p_value"] >= _P_VALUE:
        yield Claim("yes", f"It is calibrated: log-densities of samples and of test points have one law ({text}).")
    else:
        yield Claim("no", f"Calibration: log-densities of samples and of test points differ in law ({text}).")


def _distances(found: dict[str, Any]) -> Iterator[Claim]:
    rows = found["sample_metrics"]
    if rows is None:
        if found["of"] != "a density" or found["sample_nll"] is not None:
            yield Claim("open", "That samples resemble data: there are no test points, or fewer than two samples.")
        return
    drawn, fresh = rows["sets"].values()
    # of few sets of fresh data the standard deviation is not well known
    spread = float(stats.t.ppf(1 - _P_VALUE, fresh - 1)) * math.sqrt(1 / drawn + 1 / fresh)
    near, far, as_good = [], [], []
    for key, name in POINT_NAMES.items():
        row = rows[key]
        margin, better = spread * row["floor_sd"], 1 if key == "coverage" else -1
        text = f"{name} {row['value']:.3f}, fresh data {row['floor']:.3f} ± {row['floor_sd']:.3f}"
        (far if better * (row["floor"] - row["value"]) > margin else near).append(text)
        if "kernel_density" in row and better * (row["floor"] - row["kernel_density"]) <= margin:
            as_good.append(name)
    if near:
        others = f"; a kernel density's are as good by {', '.join(as_good)}" if as_good else ""
        yield Claim(
            "yes",
            f"Samples are as near to the test points as fresh data, {rows['n']} at a time, by these metrics: "
            f"{'; '.join(near)}. So are samples that repeat training rows{others}.",
        )
    if far:
        yield Claim("no", f"That samples are like fresh data: {'; '.join(far)}.")
    row = rows["nearest_neighbour_accuracy"]
    if row["floor"] - row["value"] > spread * row["floor_sd"]:
        yield Claim(
            "no",
            "That samples are fresh: their nearest neighbours are test points more often than those of fresh data "
            f"(1-NN accuracy {row['value']:.3f}, fresh data {row['floor']:.3f}); they may repeat test points.",
        )


def _margin(*means: dict[str, Any]) -> float:
    """Beyond what a mean, or a difference of two, is not zero, as far beyond as two standard errors of many places.

    By Student's law, of as many degrees of freedom as there are places less one; of two means by Welch 1947, Biometrika
    34.
    """
    squares = [(row["standard_error"] ** 2, row["places"] - 1) for row in means]
    total = sum(square for square, _ in squares)
    if not total:
        return 0.0
    freedom = total**2 / sum(square**2 / n for square, n in squares)
    return float(stats.t.isf(stats.norm.sf(_SIGMAS), freedom)) * math.sqrt(total)


def _value(integral: dict[str, Any]) -> str:
    return with_error(integral["value"], integral["standard_error"])
