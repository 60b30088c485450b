"""Several models as one: their mixture."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.arguments import require_instance
from rsgm.distributions.combined import choose, fit_weights
from rsgm.likelihood import LogProb
from rsgm.models.base import GenerativeModel, Weights, load

#: of EM; two models with log-densities that differ by a tenth of a nat need some thousands, which take a second
_ITERATIONS = 5000


class ModelMixture(GenerativeModel):
    r"""A mixture of models that are learned already, :math:`p(x) = \sum_k w_k\,p_k(x)`.

    Of several runs, or of a flow and a kernel density, the mixture has at least the likelihood on the validation points
    of the best of them. The weights maximise that likelihood by EM, a convex problem. Nothing is learned by gradient,
    and a part that is fitted in one pass is fitted to the training points unless it was before. The parts are copies:
    the models that are given may be trained further, and the mixture stays as it is.

    The parts must not have seen the validation and test points: with the command, give the runs one split,
    ``--data.seed=0``, and each its own ``--seed_everything``; checkpoints that say otherwise are refused. Then

    ``python train.py --config configs/earth_kde.yaml --data.seed=0 --model=ModelMixture
    --model.models='[runs/a/version_0/best.ckpt, runs/b/version_0/best.ckpt]'``

    Its checkpoint holds all of its parts, and no longer needs their files.

    References: Dempster, Laird & Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm", J. R.
    Stat. Soc. B 39; Smyth & Wolpert 1999, "Linearly combining density estimators via stacking", Mach. Learn. 36.

    Arguments:
        models: on one manifold, each a model or the path of a checkpoint
        weights: one for each part, not negative, of any sum, and never fitted; None to fit them, equal until then.
            Conditional parts need them given: points alone do not say how well those fit

    Raises:
        TypeError: for a part of another kind
        ValueError: for no parts, parts on different manifolds, and other weights; by `fit_points` for a part that shows
            that it has not been trained
        FileNotFoundError, CheckpointError: see `read_checkpoint`

    Example:
        >>> import rsgm
        >>> sphere = rsgm.Sphere(2)
        >>> parts = [rsgm.KernelDensity(sphere, min_width=0.05), rsgm.KentMixture(sphere, components=2, restarts=1)]
        >>> x = sphere.random_uniform(50, 3, generator=torch.Generator().manual_seed(0))
        >>> model = rsgm.fit(rsgm.ModelMixture(parts), x)
        >>> model.sample(4).shape, float(model.weights.sum())
        (torch.Size([4, 3]), 1.0)
    """

    parts_points = True  # as each of its models needs it

    def __init__(self, models: Sequence[GenerativeModel | str], weights: Sequence[float] | None = None) -> None:
        if not isinstance(models, (list, tuple)) or not models:
            found = type(models).__name__ if models else "none"
            raise ValueError(f"ModelMixture: models is a list of at least one model or checkpoint, found {found}.")
        parts = [_part(model) for model in models]
        homes = [f"{part.manifold}, with points of shape {part.manifold.shape}" for part in parts]
        if len(set(homes)) > 1:
            raise ValueError(f"ModelMixture: all models must be on one manifold, found {'; '.join(homes)}.")
        super().__init__(parts[0].manifold)
        # described as they are: what was given need not be kept
        self._arguments = ((), {})
        shares = torch.as_tensor([1.0] * len(parts) if weights is None else weights, dtype=torch.float64)
        self._given = None if weights is None else shares.tolist()
        if shares.shape != (len(parts),) or not bool((shares >= 0).all()) or not 0 < float(shares.sum()) < math.inf:
            raise ValueError(
                f"ModelMixture: {len(parts)} weights are needed, none negative and not all zero, found {self._given}."
            )
        self.models = nn.ModuleList(parts).requires_grad_(False).eval()
        self.register_buffer("weights", shares / shares.sum())
        self.to(parts[0].device)

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Fit the parts that are not fitted yet; then the weights, unless they were given, on the validation points."""
        for part in self.models:
            if not part.fitted and type(part).loss is not GenerativeModel.loss:
                raise ValueError(
                    f"ModelMixture: {type(part).__name__} is learned by gradient and has not been; train it, and give "
                    "the mixture its checkpoint."
                )
            if not part.fitted:
                part.fit_points(train, val, seed, weights)
        if self._given is not None:
            return
        self.require_data(train, val, weights)
        log_parts = torch.stack([part.likelihoods(val).value.to(self.weights) for part in self.models], 1)
        # what no part reaches says nothing of their weights
        reached = torch.isfinite(log_parts).any(1)
        if reached.any():
            count = None if weights is None else weights[1].to(log_parts)[reached]
            self.weights = fit_weights(log_parts[reached], _ITERATIONS, count)

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """A part for each point, then draws from each part."""
        index = choose(self.weights, n, generator)
        # as its parts draw it
        dtype = torch.float64 if math.isinf(self.manifold.log_volume) else torch.float32
        x = torch.empty(n, *self.manifold.shape, dtype=dtype, device=self.device)
        for k, part in enumerate(self.models):
            rows = (index == k).nonzero()[:, 0]
            if len(rows):
                x[rows] = part.draw(len(rows), None if context is None else context[rows], generator).to(dtype)
        return x

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The mixture density, in float64, of the parts that have a weight; the evaluations of all are counted."""
        living = self.weights.nonzero()[:, 0].tolist()
        found = [self.models[k].likelihoods(x, context) for k in living]
        joint = torch.stack([part.value.to(self.weights) for part in found], 1) + self.weights[living].log()
        exact, nfe = all(part.exact for part in found), sum(part.nfe for part in found)
        return LogProb(
            joint.logsumexp(1), nfe, exact, _together({k: p.solver for k, p in zip(living, found, strict=True)})
        )

    @override
    def parts(self) -> list[tuple[float, GenerativeModel]]:
        """Those that have a weight."""
        return [(weight, part) for weight, part in zip(self.weights.tolist(), self.models, strict=True) if weight]

    @override
    def resolution(self) -> float | None:
        # a part without a limit has peaks of any width, and so has the mixture
        scales = [part.resolution() for _, part in self.parts()]
        return None if None in scales else min(scales)

    @override
    def rough(self) -> GenerativeModel:
        return self.altered(models=nn.ModuleList(part.rough() for part in self.models))

    @property
    @override
    def fitted(self) -> bool:
        return all(part.fitted for part in self.models)

    @property
    def description(self) -> dict[str, Any]:
        """``{class_path, init_args}`` of what the parts are now, whatever file they came from."""
        arguments = {"models": [part.description for part in self.models], "weights": self._given}
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": arguments}

    @description.setter
    def description(self, value: dict[str, Any]) -> None:
        for part, said in zip(self.models, value["init_args"]["models"], strict=True):
            if not isinstance(said, str):  # a checkpoint has said what its model is
                part.description = said


def _together(solvers: dict[int, dict[str, Any] | None]) -> dict[str, Any] | None:
    """The settings that all parts with a solver share, or else those of each, under its number; None without any."""
    known = {k: solver for k, solver in solvers.items() if solver is not None}
    first = next(iter(known.values()), None)
    if all(solver == first for solver in known.values()):
        return first
    return {f"{k}.{name}": value for k, solver in known.items() for name, value in solver.items()}


def _part(model: GenerativeModel | str) -> GenerativeModel:
    """A copy of a model, or the one in a checkpoint."""
    if isinstance(model, (str, os.PathLike)):
        return load(model)
    return copy.deepcopy(require_instance(model, GenerativeModel, "ModelMixture: a part"))
