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
from rsgm.manifolds import Manifold
from rsgm.metrics import LARGEST_ERROR, Integral, guided_integral, integral, sampled_integral
from rsgm.models import GenerativeModel, KernelDensity
from rsgm.progress import bar
from rsgm.seeding import generator_from, seed_from

#: most evaluations of the guide that plan a quadrature; most of the model by importance sampling, and at a time
_CELLS, _NODES, _BATCH = 3000, 3000, 500
#: error of the quadrature of the guide beyond which the model is integrated by importance sampling
_ENOUGH = 0.005
#: most training points, and most draws, that proposals are kernels around
_CENTRES = 1000
#: largest dimension of a manifold without a uniform law where kernels still say something
_KERNEL_DIM = 6


def kernel_density(manifold: Manifold, data: ManifoldData) -> KernelDensity | None:
    """That of the same points; None for conditional data, and without a uniform law beyond six dimensions."""
    if not _has_kernels(manifold, data):
        return None
    unit = _spread(manifold, data)
    kde = KernelDensity(manifold)
    if math.isinf(manifold.log_volume):
        kde = KernelDensity(manifold, min_width=1e-4 * unit, max_width=unit)
    kde.fit_points(data.train.points, data.val.points)
    return kde


def _has_kernels(manifold: Manifold, data: ManifoldData) -> bool:
    return data.test.context is None and (math.isfinite(manifold.log_volume) or manifold.dim <= _KERNEL_DIM)


def _spread(manifold: Manifold, data: ManifoldData) -> float:
    """The root mean square distance between training points, and one of them."""
    train = data.train.points
    return float(manifold.dist(train[:1].expand_as(train), train).square().mean().sqrt())


class Draws(NamedTuple):
    """Draws of a model and their log-densities by its likelihood.

    Fields:
        points: ``(n, *shape)``, float64
        log_density: ``(n,)``, nats
    """

    points: Tensor
    log_density: Tensor


def density_integral(model: GenerativeModel, data: ManifoldData, draws: Draws) -> Integral | None:
    r"""The integral of a model's density, which must be one; None where there are no kernels, or a context.

    The guide is a kernel density of draws of the model *and* of training points; its widths have the weights that are
    best for other draws of the model, so that it follows the model as far as kernels can. Up to dimension two on a
    compact manifold it plans the cells of a quadrature, at no cost, and only what the model differs from it is
    integrated. Elsewhere, and where the guide is too rough for as many cells as are affordable, by importance
    sampling, :math:`Z = E_q[p / q]`, with the mixture q of

    - 90 %: the guide;
    - 10 %: the uniform law, evenly spread where there is a chart, or, where there is none, wide kernels around the
      training points.

    Why not the draws themselves, with the model's own p among the proposals? Their law is p only where the sampler is
    right and Z is one, which is what Z is to find out. With p in the place of their unknown law a density times one
    half would come out as one wherever the draws dominate, and mass that the sampler never visits would not count.
    With the scale as an unknown (bridge sampling) a sampler that is a little too wide still moved Z of a normalised
    volcano model to 0.926 ± 0.010. All parts of q are known exactly, so the value is right in the mean whatever the
    sampler does; a poor sampler or a missed mode makes a large standard error. What neither draws nor training points
    show is found by the last 10 %, if it is not smaller than the distance between them.

    Arguments:
        model: the law; its `GenerativeModel.rough` likelihood is used
        data: what it was trained on
        draws: of the model
    """
    manifold = model.manifold
    if not _has_kernels(manifold, data):
        return None
    model, guide = model.rough(), _guide(model, data, draws.points)
    if manifold.unit_cube_extent and manifold.dim <= 2:
        hints = torch.cat([draws.points[:_CENTRES], data.train.points[:_CENTRES].double()])

        def near(x: Tensor) -> Tensor:
            return guide.likelihood(x).value

        plan = integral(near, manifold, (hints, near(hints)), max_nodes=_CELLS)
        if plan.standard_error <= _ENOUGH:
            return guided_integral(model.log_prob, plan, manifold.dim)
    (draw_far, log_far), share, nodes, values, proposals = _anywhere(manifold, data), round(0.9 * _BATCH), [], [], []
    with bar("integral of the density", _NODES, "nodes") as shown:
        for k in range(_NODES // _BATCH):
            x = torch.cat([guide.sample(share, seed=seed_from("near", k)).double(), draw_far(_BATCH - share)])
            x = manifold.projx(x)
            proposals.append(torch.logaddexp(guide.likelihood(x).value + math.log(0.9), log_far(x) + math.log(0.1)))
            nodes.append(x)
            values.append(model.log_prob(x).double().cpu())
            found = sampled_integral(*map(torch.cat, (nodes, values, proposals)))
            shown.update(_BATCH)
            # what the error would be with all nodes is far from small enough
            hopeless = k > 0 and found.standard_error * ((k + 1) * _BATCH / _NODES) ** 0.5 > 2 * LARGEST_ERROR
            if found.standard_error <= LARGEST_ERROR / 2 or hopeless:
                break
    # for the picture of the density
    points, known = torch.cat([found.nodes, draws.points]), torch.cat([found.log_density, draws.log_density])
    return found._replace(nodes=points, log_density=known)


def _guide(model: GenerativeModel, data: ManifoldData, draws: Tensor) -> KernelDensity:
    """Kernels around training points and half of a model's draws, with the weights that suit the other half."""
    manifold, half = model.manifold, min(_CENTRES, len(draws) // 2)
    widest = _spread(manifold, data) if math.isinf(manifold.log_volume) else 0.7
    finest = min(model.resolution() or 1e-4 * widest, widest)
    guide = KernelDensity(manifold, widths=12, min_width=finest, max_width=widest)
    train, draws = data.train.points[:_CENTRES].double(), draws.cpu()
    guide.fit_points(torch.cat([train, draws[:half]]), draws[half:])
    # the weights that suit half of the draws suit all
    guide.points = torch.cat([train, draws[: 2 * _CENTRES]])
    return guide


def _anywhere(manifold: Manifold, data: ManifoldData) -> tuple[Callable[[int], Tensor], Callable[[Tensor], Tensor]]:
    """How to draw from a law that leaves no place out, and its log-density."""
    if math.isinf(manifold.log_volume):
        unit = _spread(manifold, data)
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
