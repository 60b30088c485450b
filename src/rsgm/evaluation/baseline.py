"""What a model's density is compared with: a kernel density of the same points, and the integral, which must be one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from rsgm.data import ManifoldData
from rsgm.evaluation.classes import Classes, classes
from rsgm.evaluation.figures import contexts_like
from rsgm.evaluation.own_draws import own_draws
from rsgm.likelihood import Draws
from rsgm.manifolds import Manifold
from rsgm.metrics import LARGEST_ERROR, Integral, guided_integral, integral, sampled_integral
from rsgm.models import GenerativeModel, KernelDensity
from rsgm.progress import bar
from rsgm.seeding import generator_from, seed_from

#: most evaluations of the guide that plan a quadrature; most of the model by importance sampling, and at a time
_CELLS, _NODES, _BATCH = 3000, 3000, 500
#: most evaluations, and at a time, of a density in closed form, and standard error that is enough for it
_CLOSED_NODES, _CLOSED_BATCH, _CLOSED_ENOUGH = 100_000, 5000, 0.003
#: share of the proposals from which on the integral of a part is a control variate
_CONTROL = 0.01
#: most evaluations times numbers that such a law consists of
_CLOSED_COST = 3e10
#: error of the quadrature of the guide beyond which the model is integrated by importance sampling
_ENOUGH = 0.005
#: standard error that is enough for a flow, and most tangent vectors along which its map is derived
_PRECISE, _TANGENTS = 0.002, 20
#: most training points, and most draws, that proposals are kernels around
_CENTRES = 20_000
#: largest dimension of a manifold without a uniform law where kernels still say something
_KERNEL_DIM = 6


class KernelBaseline(NamedTuple):
    """Kernel densities of training points: one, or one for each class of contexts.

    Fields:
        parts: one for each class
        classes: None without contexts
    """

    parts: list[KernelDensity]
    classes: Classes | None = None

    def log_density(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """That of points ``(n, *shape)`` under their contexts, ``(n,)``, nats, float64."""
        if self.classes is None:
            return self.parts[0].likelihood(x).value
        found, of = torch.zeros(len(x), dtype=torch.float64), self.classes.of(context)
        for k, part in enumerate(self.parts):
            found[of == k] = part.likelihood(x[of == k]).value
        return found

    def sample(self, n: int, context: Tensor | None = None, seed: int = 0) -> Tensor:
        """Draws ``(n, *shape)``, each under its context."""
        if self.classes is None:
            return self.parts[0].sample(n, seed=seed)
        of, found = self.classes.of(context), self.parts[0].points.new_zeros(n, *self.parts[0].manifold.shape)
        for k, part in enumerate(self.parts):
            found[of == k] = part.sample(int((of == k).sum()), seed=seed_from("class", seed, k)).to(found)
        return found


def kernel_density(manifold: Manifold, data: ManifoldData) -> KernelBaseline | None:
    """That of the same points, of conditional data one for each class; None where `why_no_kernels` has a reason."""
    if why_no_kernels(manifold, data) is not None:
        return None
    if data.test.context is None:
        return KernelBaseline([_fitted(manifold, data.train.points, data.val.points, data.weights_to_fit())])
    found, weights, parts = classes(data), data.weights_to_fit(), []
    train, val = found.of(data.train.context), found.of(data.val.context)
    for k in range(len(found.names)):
        own = None if weights is None else (weights[0][train == k], weights[1][val == k])
        parts.append(_fitted(manifold, data.train.points[train == k], data.val.points[val == k], own))
    return KernelBaseline(parts, found)


def why_no_kernels(manifold: Manifold, data: ManifoldData) -> str | None:
    """Why there is no kernel density beside a model; None where there is one."""
    if math.isinf(manifold.log_volume) and manifold.dim > _KERNEL_DIM:
        return f"a manifold without a uniform law, of {manifold.dim} dimensions; kernels take up to {_KERNEL_DIM}"
    if data.test.context is None:
        return None
    try:
        classes(data)
    except ValueError as reason:
        return str(reason)
    return None


def _fitted(manifold: Manifold, train: Tensor, val: Tensor, weights: tuple[Tensor, Tensor] | None) -> KernelDensity:
    kde = KernelDensity(manifold)
    if math.isinf(manifold.log_volume):
        unit = _spread(manifold, train)
        kde = KernelDensity(manifold, min_width=1e-4 * unit, max_width=unit)
    kde.fit_points(train, val, weights=weights)
    return kde


def _spread(manifold: Manifold, train: Tensor) -> float:
    """The root mean square distance between training points, and one of them."""
    return float(manifold.dist(train[:1].expand_as(train), train).square().mean().sqrt())


def density_integral(model: GenerativeModel, data: ManifoldData, draws: Draws) -> Integral | None:
    r"""The integral of a model's density, which must be one; None where there is no way to find it.

    Importance sampling, :math:`Z = E_q[p / q]`. Up to dimension 20 the draws of a flow have a law q that is known
    exactly (see `rsgm.likelihood.transport`) and close to p; contexts are those of the test points, in turn. Without
    a flow, or where its map is too steep for that, and for data without context, see `guided_by_kernels`. Of a mixture
    it is the mean of the parts'.

    Why not the samples that are scored, with the model's own p as their density? Their law is p only where the sampler
    is right and Z is one, which is what Z is to find out: a density times one half would come out as one. With the
    scale as an unknown (bridge sampling) a sampler that is a little too wide still moved Z of a normalised volcano
    model to 0.926 ± 0.010.

    Arguments:
        model: the law; its `GenerativeModel.rough` likelihood is used
        data: what it was trained on
        draws: of the model
    """
    parts = model.parts()
    if any(part is not model for _, part in parts):
        return _of_parts(parts, data, draws)
    found = _by_transport(model, data, draws)
    if found is not None and (found.measured or not math.isfinite(found.standard_error)):
        return found
    if data.test.context is not None or why_no_kernels(model.manifold, data) is not None:
        return found
    # a flow that is steep somewhere has draws of its map with heavy tails
    other = guided_by_kernels(model, data, draws)
    return found if found is not None and found.standard_error < other.standard_error else other


def _of_parts(parts: list[tuple[float, GenerativeModel]], data: ManifoldData, draws: Draws) -> Integral | None:
    """That of a mixture is the mean of its parts', each found in the way that suits it; None where one is not found."""
    value = variance = 0.0
    for weight, part in parts:
        found = _by_transport(part, data, draws)
        if found is None and data.test.context is None:
            found = density_integral(part, data, own_draws(part, len(draws.points), seed=seed_from("part")))
        if found is None:
            return None
        value, variance = value + weight * found.value, variance + (weight * found.standard_error) ** 2
    return Integral(value, draws.points, draws.log_density, variance**0.5, "the mean of its parts")


def _by_transport(model: GenerativeModel, data: ManifoldData, draws: Draws) -> Integral | None:
    """By the draws of a flow, whose law is known; None for what is none."""
    generator = model.generator(seed_from("transport"))

    def propose(n: int) -> _Proposal | None:
        context = contexts_like(model, data.test, n)
        found = model.transported(n, context, generator)
        return None if found is None else _Proposal(*found, context)

    if model.manifold.dim > _TANGENTS or (first := propose(_BATCH // 2)) is None:
        return None
    return _sampled(model.rough(), lambda n: propose(n) or first, draws, _PRECISE, _NODES)


def guided_by_kernels(model: GenerativeModel, data: ManifoldData, draws: Draws) -> Integral:
    """The integral of a density that may have any form, with a kernel density as a guide.

    The guide has its kernels on draws of the model *and* on training points; its widths have the weights that are best
    for other draws of the model, so that it follows the model as far as kernels can. Up to dimension two on a compact
    manifold it plans the cells of a quadrature, at no cost, and only what the model differs from it is integrated.
    Elsewhere, and where the guide is too rough for as many cells as are affordable, by importance sampling from the
    mixture of

    - 90 %: the guide;
    - 10 %: the uniform law, evenly spread where there is a chart, or, where there is none, wide kernels around the
      training points.

    The kernels of each width of the guide that weighs a percent, and the law of the 10 %, integrate to one: what the
    model's density differs from their best combination is what is left to chance. A density in closed form is evaluated
    more often, until the standard error is .003.

    All are known exactly, so the value is right in the mean whatever the sampler does; a poor sampler or a missed
    mode makes a large standard error. What neither draws nor training points show is found by the last 10 %, if it is
    not smaller than the distance between them.

    Arguments: see `density_integral`
    """
    manifold, model, guide = model.manifold, model.rough(), _guide(model, data, draws.points)
    closed = model.likelihood(draws.points[:1].to(model.device)).nfe == 0
    enough, most = (_CLOSED_ENOUGH, _affordable(model)) if closed else (LARGEST_ERROR / 2, _NODES)
    if manifold.unit_cube_extent and manifold.dim <= 2:
        hints = torch.cat([draws.points[:_CENTRES], data.train.points[:_CENTRES].double()])

        def near(x: Tensor) -> Tensor:
            return guide.likelihood(x).value

        plan = integral(near, manifold, (hints, near(hints)), max_nodes=_CELLS)
        if plan.standard_error <= _ENOUGH:
            found = guided_integral(model.log_prob, plan, manifold.dim)
            if found.measured and not (closed and found.standard_error > enough):
                return found
    (draw_far, log_far), seeds = _anywhere(manifold, data), itertools.count()

    def propose(n: int) -> _Proposal:
        share = round(0.9 * n)
        x = torch.cat([guide.sample(share, seed=seed_from("near", next(seeds))).double(), draw_far(n - share)])
        x = manifold.projx(x)
        log_parts = torch.cat([guide.log_parts(x), log_far(x)[:, None]], 1)
        weights = torch.cat([0.9 * guide.weights, guide.weights.new_tensor([0.1])])
        log_density = (log_parts + weights.log()).logsumexp(1)
        # of the others too few points would be drawn to know their integrals
        ratios = log_parts[:, weights >= _CONTROL] - log_density[:, None]
        return _Proposal(x, log_density, controls=ratios.exp())

    return _sampled(model, propose, draws, enough, most)


def _affordable(model: GenerativeModel) -> int:
    """Evaluations of a density in closed form."""
    numbers = sum(part.numel() for part in model.state_dict().values())
    return round(min(_CLOSED_NODES, max(_NODES, _CLOSED_COST / max(1, numbers))))


class _Proposal(NamedTuple):
    """Draws of a law whose density is known, and ratios to it, ``(n, K)``, of densities that integrate to one."""

    points: Tensor
    log_density: Tensor
    context: Tensor | None = None
    controls: Tensor | None = None


def _sampled(
    model: GenerativeModel, propose: Callable[[int], _Proposal], draws: Draws, enough: float, most: int
) -> Integral:
    """By importance sampling, until the standard error is ``enough`` or hopeless, or ``most`` nodes are spent."""
    parts: list[tuple[Tensor, ...]] = []
    spent = 0
    with bar("integral of the density", most, "nodes") as shown:
        while spent < most:
            x, log_proposal, context, controls = propose(min(max(_BATCH, spent - _NODES), _CLOSED_BATCH, most - spent))
            value = model.log_prob(x, context).double()
            parts.append(tuple(part.cpu() for part in (x, value, log_proposal, controls) if part is not None))
            found = sampled_integral(*map(torch.cat, zip(*parts, strict=True)))
            spent += len(x)
            shown.update(len(x))
            # what the error would be with all nodes is far from small enough
            hopeless = len(parts) > 1 and found.standard_error * (spent / most) ** 0.5 > 2 * LARGEST_ERROR
            if found.standard_error <= enough or hopeless:
                break
    # for the picture of the density
    points, known = torch.cat([found.nodes, draws.points]), torch.cat([found.log_density, draws.log_density])
    return found._replace(nodes=points, log_density=known)


def _guide(model: GenerativeModel, data: ManifoldData, draws: Tensor) -> KernelDensity:
    """Kernels around training points and half of a model's draws, with the weights that suit the other half."""
    manifold, half = model.manifold, min(_CENTRES, len(draws) // 2)
    widest = _spread(manifold, data.train.points) if math.isinf(manifold.log_volume) else 0.7
    finest = min(model.resolution() or 1e-4 * widest, widest)
    guide = KernelDensity(manifold, min_width=finest, max_width=widest)
    train, draws = data.train.points[:_CENTRES].double(), draws.cpu()
    guide.fit_points(torch.cat([train, draws[:half]]), draws[half:])
    # the weights that suit half of the draws suit all
    guide.points = torch.cat([train, draws[: 2 * _CENTRES]])
    return guide


def _anywhere(manifold: Manifold, data: ManifoldData) -> tuple[Callable[[int], Tensor], Callable[[Tensor], Tensor]]:
    """How to draw from a law that leaves no place out, and its log-density."""
    if math.isinf(manifold.log_volume):
        unit = _spread(manifold, data.train.points)
        wide = KernelDensity(manifold, widths=1, min_width=unit, max_width=unit)
        wide.fit_points(data.train.points[:_CENTRES], data.val.points)
        seeds = itertools.count()
        return lambda n: wide.sample(n, seed=seed_from("far", next(seeds))).double(), lambda x: wide.likelihood(x).value
    shape, log_density = manifold.shape, -manifold.log_volume
    generator = generator_from("far")
    engine = SobolEngine(manifold.dim, scramble=True, seed=seed_from("far") % 2**31)

    def draw(n: int) -> Tensor:
        if manifold.unit_cube_extent:
            return manifold.from_unit_cube(engine.draw(n, dtype=torch.float64))
        return manifold.random_uniform(n, *shape, generator=generator, dtype=torch.float64)

    return draw, lambda x: x.new_full((len(x),), log_density)
