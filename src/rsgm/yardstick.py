"""What a density is held against: kernels on the same points, and the whole that it must add up to."""

from __future__ import annotations

import math

import torch

from rsgm.data import ManifoldData
from rsgm.manifolds import Manifold
from rsgm.metrics import Integral, integral, sampled_integral
from rsgm.models import GenerativeModel, KernelDensity
from rsgm.seeding import generator_from

#: draws of the importance sampling of the integral; evaluations of its quadrature, known peaks apart
_NODES, _CELLS, _KNOWN = 2000, 12_000, 4000
#: largest dimension of a manifold without a uniform law where kernels still say something
_KERNEL_DIM = 6


def kernel_density(manifold: Manifold, data: ManifoldData) -> KernelDensity | None:
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


def density_integral(model: GenerativeModel, data: ManifoldData, kde: KernelDensity | None) -> Integral | None:
    """By the same function as the likelihood: quadrature up to dimension 2, beyond it importance sampling.

    Half of the proposals are the kernel density's draws, half are uniform, or where there is no uniform law draws of
    wide kernels. None where there is no kernel density.
    """
    if kde is None:
        return None
    if model.manifold.unit_cube_extent and model.manifold.dim <= 2:
        # the places where the density may be sharp; more of them would cost more than they find
        known = data.train.points[:_KNOWN]
        return integral(model.log_prob, model.manifold, known, max_nodes=_CELLS)
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
    return sampled_integral(model.log_prob, nodes, proposal)
