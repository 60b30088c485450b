"""Mixtures of models: weights, draws, what a checkpoint holds, and parts that come from files."""

import copy
import json
from functools import partial

import pytest
import torch

import rsgm
from conftest import within
from helpers import seeded
from rsgm import (
    RSGM,
    AdaptiveKernelDensity,
    Euclidean,
    ExactScore,
    FlowMatching,
    KentMixture,
    KernelDensity,
    ModelMixture,
    NeuralKernelDensity,
    Sphere,
)
from rsgm.description import build
from rsgm.distributions import GaussianMixture
from rsgm.distributions.combined import fit_weights
from rsgm.models import GenerativeModel
from rsgm.networks import MLP
from rsgm.samplers import ReverseDiffusion
from tiny import TINY, best, enter, run, without_figures

SPHERE, LINE = Sphere(2), Euclidean(1)
NETWORK = partial(MLP, hidden=[8])


def bump(centre: float, width: float = 0.1) -> KernelDensity:
    """A normal law on the line."""
    model = KernelDensity(LINE, widths=1, min_width=width, max_width=width)
    x = torch.full((1, 1), centre, dtype=torch.float64)
    model.fit_points(x, x)
    return model


def caps(*heights: float, n: int = 40) -> torch.Tensor:
    """Points near the poles of the sphere, ``n`` for each sign of height."""
    poles = torch.tensor([[0.0, 0.0, height] for height in heights], dtype=torch.float64).repeat_interleave(n, 0)
    return SPHERE.bump_sample(poles, torch.tensor(0.3, dtype=torch.float64), seeded())


def flow(seed: int) -> FlowMatching:
    torch.manual_seed(seed)
    return FlowMatching(SPHERE, network=NETWORK)


# ---- weights


def test_weights_of_laws_apart_are_their_shares():
    """Where no point is of two parts, the weights are how many points each has."""
    model = ModelMixture([bump(-10.0), bump(0.0), bump(10.0)])
    val = torch.tensor([-10.0, -10.1, 0.0, 10.0, 9.9, 9.9, 10.1, 10.0], dtype=torch.float64)[:, None]
    model.fit_points(val, val)
    assert model.weights.dtype == torch.float64
    torch.testing.assert_close(model.weights, torch.tensor([2, 1, 5], dtype=torch.float64) / 8, rtol=0, atol=1e-12)


def test_weights_are_the_best_on_the_validation_points():
    """No step towards a part raises the likelihood: the mean of p_k / p is one for each that has a weight."""
    parts = [bump(0.0, 1.0), bump(0.3, 1.0), bump(0.0, 3.0), bump(50.0, 1.0)]
    val = torch.randn(200, 1, generator=seeded(), dtype=torch.float64) * torch.tensor([1.0, 2.0]).repeat(100)[:, None]
    model = ModelMixture(parts)
    before = model.log_prob(val).mean()
    model.fit_points(val, val)
    assert model.log_prob(val).mean() > before
    assert float(model.weights.sum()) == pytest.approx(1, abs=1e-12)
    assert model.weights[3] < 1e-12
    ratios = torch.stack([(part.log_prob(val) - model.log_prob(val)).exp().mean() for part in parts])
    assert ratios.max() < 1 + 1e-4
    torch.testing.assert_close(model.weights @ ratios, torch.ones((), dtype=torch.float64))
    assert all(model.log_prob(val).mean() >= part.log_prob(val).mean() for part in parts)


@pytest.mark.parametrize(
    "part",
    [
        KernelDensity(SPHERE, widths=3, min_width=0.2),
        AdaptiveKernelDensity(SPHERE, widths=3, min_width=0.1, neighbours=(4,)),
        KentMixture(SPHERE, components=2, restarts=1),
        ModelMixture([AdaptiveKernelDensity(SPHERE, widths=3, min_width=0.1, neighbours=(4,))]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_is_fitted_in_one_pass_is_fitted(part):
    """Unless it was before: as it would be alone."""
    train, val = caps(1, -1, n=30), caps(1, -1, n=12)
    assert not part.fitted
    model, alone = ModelMixture([part]), copy.deepcopy(part)
    model.fit_points(train, val)
    alone.fit_points(train, val)
    assert alone.fitted
    assert torch.equal(model.log_prob(val), alone.log_prob(val))
    again = ModelMixture([alone])
    again.fit_points(val, val)
    assert torch.equal(again.log_prob(train), alone.log_prob(train))


def test_what_was_not_trained_is_refused():
    model, x = ModelMixture([NeuralKernelDensity(SPHERE)]), caps(1, -1, n=30)
    with pytest.raises(ValueError, match="NeuralKernelDensity is learned by gradient and has not been; train it"):
        model.fit_points(x, x)


def test_em_of_two_laws_on_two_points():
    """Of w p(a) + (1 - w) q(a) and (1 - w) q(b) the best w is known."""
    p_a, q_a, q_b = 0.9, 0.2, 0.5
    log_parts = torch.tensor([[p_a, q_a], [0.0, q_b]], dtype=torch.float64).log()
    # the derivative (p - q) / (w p + (1 - w) q) = 1 / (1 - w) at the optimum
    best = ((p_a - q_a) - q_a) / (2 * (p_a - q_a))
    assert float(fit_weights(log_parts, 500)[0]) == pytest.approx(best, abs=1e-9)


def test_points_that_no_part_reaches_do_not_count():
    parts, val = [bump(-1.0), bump(1.0)], torch.tensor([[-1.0], [1.0], [1.1]], dtype=torch.float64)
    far = torch.full((2, 1), 1e160, dtype=torch.float64)
    model, other, lost = (ModelMixture(parts) for _ in range(3))
    model.fit_points(val, val)
    other.fit_points(val, torch.cat([val, far]))
    assert torch.equal(model.weights, other.weights)
    lost.fit_points(val, far)
    assert lost.weights.tolist() == [0.5, 0.5]


def test_weights_that_are_given_stay():
    model = ModelMixture([bump(-1.0), bump(1.0)], weights=[3, 1])
    assert model.weights.tolist() == [0.75, 0.25]
    x = torch.ones(5, 1, dtype=torch.float64)
    model.fit_points(x, x)
    assert model.weights.tolist() == [0.75, 0.25]
    assert model.description["init_args"]["weights"] == [3.0, 1.0]
    assert build(model.description, GenerativeModel).weights.tolist() == [0.75, 0.25]


@pytest.mark.parametrize("others", [0, 1])
def test_a_part_of_all_the_weight_is_the_mixture(others):
    part, x = flow(0), caps(1, -1, n=5)
    model = ModelMixture([part, *[flow(1)] * others], weights=[2.0] + [0.0] * others)
    found, expected = model.likelihood(x), part.likelihood(x)
    torch.testing.assert_close(found.value, expected.value, rtol=0, atol=1e-12)
    # a part without weight costs nothing
    assert (found.nfe, found.exact, found.solver) == (expected.nfe, True, expected.solver)


# ---- the law


def test_density_is_the_sum():
    parts, x = [flow(0), KernelDensity(SPHERE, widths=3, min_width=0.2)], caps(1, -1, n=5)
    parts[1].fit_points(x, x)
    found, each = ModelMixture(parts, [0.3, 0.7]).likelihood(x), [part.likelihood(x) for part in parts]
    expected = 0.3 * each[0].value.exp() + 0.7 * each[1].value.exp()
    torch.testing.assert_close(found.value.exp(), expected, rtol=1e-12, atol=0)
    assert found.nfe == each[0].nfe
    assert found.solver == each[0].solver


def test_solvers_that_differ_are_told_apart():
    x = caps(1, n=2)
    fine = FlowMatching(SPHERE, network=NETWORK, solver=rsgm.likelihood.ODESolver(tolerance=1e-6))
    found = ModelMixture([flow(0), fine]).likelihood(x)
    assert (found.solver["0.tolerance"], found.solver["1.tolerance"]) == (1e-5, 1e-6)
    assert found.nfe == flow(0).likelihood(x).nfe + fine.likelihood(x).nfe


def test_samples_follow_the_weights():
    model = ModelMixture([bump(-10.0), bump(0.0), bump(10.0)], weights=[0.2, 0.0, 0.8])
    x = model.sample(4_000, seed=0)
    assert within((x > 5).double(), 0.8)
    assert ((x.abs() - 10).abs() < 1).all()
    assert within((x.abs() - 10).square(), 0.01)


def test_log_prob_is_differentiable_in_the_point():
    model = ModelMixture([bump(-1.0, 0.5), bump(1.0, 2.0)], weights=[0.3, 0.7])
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None].requires_grad_()
    (found,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    law = GaussianMixture([[-1.0], [1.0]], [0.5, 2.0], [0.3, 0.7])
    (expected,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_resolution_is_the_finest_of_the_parts_that_have_a_weight():
    """None where one of them has no limit."""
    fine, coarse = (KernelDensity(SPHERE, min_width=width) for width in (0.01, 0.1))
    assert ModelMixture([coarse, fine]).resolution() == 0.01
    assert ModelMixture([coarse, fine, flow(0)], weights=[1, 0, 0]).resolution() == 0.1
    assert ModelMixture([coarse, flow(0)]).resolution() is None


def test_conditional_parts_get_the_context_of_each_point():
    torch.manual_seed(0)
    network = partial(MLP, hidden=[8], context_features=2)
    x, context = caps(1, n=4), torch.eye(2).repeat(2, 1)
    parts = [RSGM(SPHERE, network=network, sampler=ReverseDiffusion(steps=3)), KernelDensity(SPHERE, widths=3)]
    parts[1].fit_points(x, x)
    model = ModelMixture(parts, [0.6, 0.4])
    expected = 0.6 * parts[0].log_prob(x, context).exp() + 0.4 * parts[1].log_prob(x).exp()
    torch.testing.assert_close(model.log_prob(x, context).exp(), expected, rtol=1e-10, atol=0)
    seen = []
    model.models[0].draw = lambda n, given, generator: seen.append(given) or torch.zeros(n, 3)
    drawn = model.sample(40, torch.arange(40.0)[:, None], seed=0)
    rows = (drawn == 0).all(1).nonzero()
    assert 10 < len(rows) < 38
    assert torch.equal(seen[0], rows.float())
    with pytest.raises(ValueError, match="context_features is 2, found a context of 0 features"):
        model.log_prob(x)


# ---- the parts


def test_parts_are_fitted_once_and_are_copies():
    first, second = caps(1), caps(-1)
    given = KernelDensity(SPHERE, widths=3, min_width=0.2)
    given.fit_points(first, first)
    fresh = [KernelDensity(SPHERE, widths=3, min_width=0.2), KentMixture(SPHERE, components=1, restarts=1)]
    learned = flow(0)
    model = ModelMixture([given, *fresh, learned])
    assert not model.fitted
    model.fit_points(second, second)
    assert model.fitted
    assert torch.equal(model.models[0].points, given.points)
    assert torch.equal(model.models[1].points, SPHERE.projx(second))
    assert model.weights[1:3].sum() > 0.99
    # what was given is as it was
    assert not any(part.fitted for part in fresh)
    assert learned.trainable
    assert learned.training
    assert not model.trainable
    assert model.parameter_groups() == []


def test_a_schedule_that_the_points_choose_is_fitted():
    schedule = rsgm.schedules.AutomaticVariance()
    part = ExactScore(
        Euclidean(2), process=partial(rsgm.processes.VarianceExploding, schedule=schedule), sampler=ReverseDiffusion(3)
    )
    model = ModelMixture([part])
    assert not model.fitted
    x = torch.randn(30, 2, generator=seeded(), dtype=torch.float64)
    model.fit_points(x, x)
    assert model.fitted
    assert type(build(model.description, GenerativeModel).models[0].process.schedule) is not type(schedule)


def test_checkpoint_holds_parts_of_parts(tmp_path):
    x = caps(1, -1)
    kernels = KernelDensity(SPHERE, widths=3, min_width=0.2)
    model = ModelMixture([ModelMixture([kernels, flow(0)]), flow(1).double()])
    model.fit_points(x, x[::2])
    model.save(tmp_path / "all.ckpt")
    again = rsgm.load(tmp_path / "all.ckpt")
    assert torch.equal(again.log_prob(x[:5]), model.log_prob(x[:5]))
    assert torch.equal(again.sample(20, seed=0), model.sample(20, seed=0))
    assert torch.equal(again.weights, model.weights)
    assert again.description == model.description == json.loads(json.dumps(model.description))
    assert not again.trainable
    inner = again.description["init_args"]["models"][0]["init_args"]["models"]
    assert [part["class_path"].rpartition(".")[2] for part in inner] == ["KernelDensity", "FlowMatching"]


def test_parts_from_files_need_them_once(tmp_path):
    x, parts = caps(1, -1), [flow(0), flow(1)]
    paths = [tmp_path / f"{k}.ckpt" for k in range(2)]
    for part, path in zip(parts, paths, strict=True):
        part.save(path)
    model = ModelMixture([str(paths[0]), paths[1]])
    assert torch.equal(model.log_prob(x[:4]), ModelMixture(parts).log_prob(x[:4]))
    model.fit_points(x, x)
    # as the command says it
    model.description = {"class_path": "ModelMixture", "init_args": {"models": [str(path) for path in paths]}}
    model.save(tmp_path / "both.ckpt")
    for path in paths:
        path.unlink()
    assert torch.equal(rsgm.load(tmp_path / "both.ckpt").log_prob(x[:4]), model.log_prob(x[:4]))


def test_command_mixes_checkpoints(tmp_path, monkeypatch, capsys):
    """In the place of the kernel density of a configuration, as the docstring says; a missing file is one line."""
    folder = enter(tmp_path, monkeypatch)
    without_figures(monkeypatch)
    text = TINY.replace("RSGM", "KernelDensity").split("    process:")[0] + "data:" + TINY.split("data:")[1]
    (folder / "kde.yaml").write_text(text)
    for k in range(2):
        flow(k).save(folder / f"{k}.ckpt")
    assert run("--model=ModelMixture", "--model.models=[0.ckpt, 1.ckpt]", config="kde.yaml") == 0
    (folder / "0.ckpt").unlink()
    model = rsgm.load(best("kde"))
    assert [type(part) for part in model.models] == [FlowMatching, FlowMatching]
    assert torch.equal(model.models[1].log_prob(caps(1, n=3)), flow(1).log_prob(caps(1, n=3)))
    assert run("--model=ModelMixture", "--model.models=[0.ckpt, 1.ckpt]", config="kde.yaml") == 2
    assert capsys.readouterr().err.splitlines()[-1] == "train.py: No checkpoint at 0.ckpt."


def test_parts_of_other_splits_are_refused(tmp_path, monkeypatch, capsys):
    """Test points of the mixture would have been training points of theirs."""
    folder = enter(tmp_path, monkeypatch)
    for name in ("evaluate", "report", "log_result"):
        monkeypatch.setattr(f"rsgm.cli.commands.{name}", lambda *_: {})
    text = TINY.replace("RSGM", "KernelDensity").split("    process:")[0] + "data:" + TINY.split("data:")[1]
    (folder / "kde.yaml").write_text(text)
    assert run("--data.seed=0", "--seed_everything=1", config="kde.yaml") == 0
    assert run("--seed_everything=1", config="kde.yaml") == 0
    one, other = (str(best("kde", version)) for version in range(2))
    assert run("--model=ModelMixture", f"--model.models=[{one}, {other}]", config="kde.yaml") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "ModelMixture: 1 of 2 models (KernelDensity) were trained on other data" in error
    assert run("--model=ModelMixture", f"--model.models=[{one}, {one}]", config="kde.yaml") == 0


def test_parts_of_other_splits_are_refused_in_memory(tmp_path):
    """Also of models that were saved; of those that were fitted to all that a program had nobody knows."""
    splits = [rsgm.PointsData(SPHERE, caps(1, -1), seed=seed) for seed in range(2)]
    parts = [rsgm.fit(KernelDensity(SPHERE, min_width=0.1), split) for split in splits]
    parts[1].save(tmp_path / "one.ckpt")
    for other in (parts[1], rsgm.load(tmp_path / "one.ckpt")):
        with pytest.raises(ValueError, match=r"1 of 2 models \(KernelDensity\) were trained on other data"):
            rsgm.fit(ModelMixture([parts[0], other]), splits[0])
    rsgm.fit(ModelMixture([rsgm.fit(parts[1], caps(1, -1)), parts[0]]), splits[0])


# ---- what does not fit


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: ModelMixture([]), ValueError, "at least one model or checkpoint, found none"),
        (lambda: ModelMixture("a.ckpt"), ValueError, "models is a list .* found str"),
        (lambda: ModelMixture(bump(0.0)), ValueError, "models is a list .* found KernelDensity"),
        (lambda: ModelMixture([3]), TypeError, "a part is an object: expected an instance of GenerativeModel, found 3"),
        (lambda: ModelMixture([KernelDensity]), TypeError, "found the class KernelDensity; call it"),
        (
            lambda: ModelMixture([bump(0.0), flow(0)]),
            ValueError,
            r"on one manifold, found Euclidean\(dim=1\), .*\(1,\); Sphere\(dim=2\), with points of shape \(3,\)",
        ),
        (lambda: ModelMixture(["nowhere.ckpt"]), FileNotFoundError, "No checkpoint at nowhere.ckpt"),
        *[
            (partial(ModelMixture, [bump(0.0), bump(1.0)], weights), ValueError, "2 weights are needed, none negative")
            for weights in ([1.0], [], [0.0, 0.0], [2.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0])
        ],
    ],
)
def test_errors_are_one_line(make, kind, message):
    with pytest.raises(kind, match=message) as error:
        make()
    assert "\n" not in str(error.value)
