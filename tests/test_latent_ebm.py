"""The latent-space energy-based prior: what others got wrong, its likelihood, its figures.

The numbers of errors are those of public notebooks with this model.
"""

import math
from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer

from conftest import within
from helpers import seeded
from rsgm import DigitsData, Euclidean, LatentEBM, LawData, ModelMixture, Sphere
from rsgm.distributions import GaussianMixture
from rsgm.evaluation.figures import _draw_latents
from rsgm.likelihood import SolveError
from rsgm.metrics.samples import sliced_wasserstein
from rsgm.models import ImportanceSampling
from rsgm.models.latent_ebm import DivergenceError
from rsgm.models.latent_law import squared_error
from rsgm.networks import MLP, Network, SiLU
from rsgm.samplers import LangevinChain
from rsgm.training import ConstantRate, Training

SMALL = partial(MLP, hidden=[16, 16], activation=SiLU)
#: two equal normal laws
BLOBS = GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], scale=0.5, weights=None)
STILL = LangevinChain(steps=0, step=0.1)


class At:
    """A chain whose end is known."""

    def __init__(self, z: torch.Tensor) -> None:
        self.z = z

    def __call__(self, manifold, gradient, x, generator=None):
        return self.z.expand_as(x), x.new_zeros(len(x))


class Linear(Network):
    """Without a bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(in_features, out_features, bias=False)

    def forward(self, t, x, context=None):
        return self.layer(x)


def small(dim: int = 2, **arguments) -> LatentEBM:
    torch.manual_seed(0)
    return LatentEBM(Euclidean(dim), **({"energy": SMALL, "decoder": SMALL} | arguments))


def terms(model: LatentEBM, x: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return model.loss(x)


def points(n: int, dim: int = 2) -> torch.Tensor:
    return torch.randn(n, dim, generator=seeded(1))


# ---- errors of others


def test_a_step_raises_the_energy_of_the_data_over_that_of_the_prior():
    """Error 1, the sign of the loss: f grows at z of p(z|x) relative to z of the prior."""
    z = torch.tensor([1.5, -0.5])
    model = small(prior_chain=STILL, rho=0.0)
    model.posterior_chain = At(z)
    before = terms(model, points(50))
    before["loss"].mean().backward()
    with torch.no_grad():
        for p in model.law.energy.parameters():
            p -= 0.01 * p.grad
    assert terms(model, points(50))["f_gap"].mean() > before["f_gap"].mean() + 1e-4


@pytest.mark.slow
def test_the_prior_learns():
    """Error 1 again: blobs from p_alpha resemble the data better than those from p_0, which a wrong sign reverses."""
    data, model = LawData(BLOBS), small(energy_lr=1e-3)
    data.setup()
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=2e-3)
    generator = seeded(0)
    for _ in range(250):
        x = data.train.points[torch.randint(len(data.train.points), (128,), generator=generator)].float()
        optimizer.zero_grad()
        model.loss(x)["loss"].mean().backward()
        optimizer.step()
    latents = model.latents(data.test.points, seed=0)
    w2 = {name: sliced_wasserstein(draws.x.double(), data.test.points) for name, draws in latents.items()}
    assert w2["p_alpha"] < 0.8 * w2["p_0"]
    # beyond the norm of p_0, as z given the data is
    assert latents["p_alpha"].z.std() > 1.05 * latents["p_0"].z.std()


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("bound", [None, 0.01])
def test_the_energy_is_one_number(n, bound):
    """Error 2, an energy of two outputs; a batch of any size (error 5)."""
    model = small(energy_bound=bound)
    f = model.law.tilt(points(n))
    assert f.shape == (n,)
    assert bound is None or 0 < f.abs().max() <= bound
    assert all(value.shape == (n,) for value in model.loss(points(n)).values())
    assert model.law.log_joint(points(n), points(n)).shape == (n,)


def test_chains_are_not_differentiated():
    """Error 3: no history; neither network has a gradient from the other's part of the loss."""
    model = small()
    found = terms(model, points(20))
    for name in ("prior_spread", "posterior_spread", "prior_drift", "posterior_drift"):
        assert found[name].grad_fn is None, name
    for name, other in (("mse", model.law.energy), ("f_gap", model.law.decoder)):
        grads = torch.autograd.grad(found[name].mean(), list(other.parameters()), allow_unused=True, retain_graph=True)
        assert all(grad is None for grad in grads), name
    assert all(not draws.z.requires_grad and not draws.x.requires_grad for draws in model.latents(points(4)).values())


def test_where_the_posterior_chain_starts():
    """Error 4: at the draws of p_0, in the figures and in the loss, where z of both chains is then one and f_gap 0."""
    latents = small(posterior_chain=STILL).latents(points(9), seed=0)
    assert torch.equal(latents["p(z|x)"].z, latents["p_0"].z)
    assert torch.equal(terms(small(prior_chain=STILL, posterior_chain=STILL), points(9))["f_gap"], torch.zeros(9))
    assert not torch.equal(latents["p_0"].z, latents["p_alpha"].z)


def test_a_posterior_chain_may_start_in_every_mode():
    """Of p(z|x), at ends of prior chains: for x = g(z) + noise, with g(z) = z² here, at ±√x, and of equal numbers."""

    class Square(Network):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__()

        def forward(self, t, x, context=None):
            return x.square()

    arguments = {"prior_chain": STILL, "posterior_chain": STILL, "decoder": Square, "latent_dim": 1, "sigma": 0.05}
    x = torch.linspace(0.25, 2.25, 2000)[:, None]
    with pytest.raises(ValueError, match="posterior_init is 'prior_chain', expected 'p0' or 'prior'"):
        small(1, **arguments, posterior_init="prior_chain")
    z = small(1, **arguments, posterior_init="prior").latents(x, seed=0)["p(z|x)"].z
    assert torch.allclose(z.square(), x, atol=5 * 0.05)
    assert abs((z > 0).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)
    assert terms(small(1, **arguments, posterior_init="prior"), x)["mse"].mean() < 2 * 0.05**2
    assert terms(small(1, **arguments), x)["mse"].mean() > 0.5


def test_every_batch_is_an_update(tmp_path):
    """Error 5: all batches, a last one of another size included; and each network with its own learning rate."""
    data = LawData(BLOBS, train_size=50, val_size=23, test_size=9, batch_size=16, steps_per_epoch=4, eval_batch_size=10)
    model = small(energy_lr=3e-4, marginal=ImportanceSampling(draws=8, modes=1))
    energy, decoder = ([p.clone() for p in part.parameters()] for part in (model.law.energy, model.law.decoder))
    trainer = fit(model, data, tmp_path, max_epochs=2)
    assert trainer.global_step == 8
    assert math.isfinite(trainer.callback_metrics["val/nll"])
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [2e-3, 3e-4]
    # Adam moves by at most about its rate in each step
    for old, part, rate in ((energy, model.law.energy, 3e-4), (decoder, model.law.decoder, 2e-3)):
        moves = [(p - q).abs().max() for p, q in zip(part.parameters(), old, strict=True)]
        assert 0.1 * 8 * rate < max(moves) < 2 * 8 * rate


def test_no_noise_in_the_reconstruction():
    """Error 6: given z the loss is a number, |x - g(z)|² / 2σ² beside the energies."""
    z = torch.tensor([0.4, -1.0])
    model = small(prior_chain=STILL, sigma=0.2, rho=0.5)
    model.posterior_chain = At(z)
    x = points(5)
    found = terms(model, x)
    error = (x - model.law.decode(z.expand(5, 2))).square().sum(1)
    torch.manual_seed(0)
    f_prior, f_post = model.law.tilt(torch.randn(5, 2)), model.law.tilt(z.expand(5, 2))
    expected = f_prior - f_post + 0.5 * (f_prior.square() + f_post.square()) + error / (2 * 0.2**2)
    assert torch.allclose(found["loss"], expected, atol=1e-5)
    assert torch.allclose(found["mse"], error / 2)
    assert torch.equal(found["f_gap"], f_post - f_prior)


def test_the_norm_is_over_all_axes():
    """Error 7, the norm over the last axis alone."""
    x, y = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)[:, :, :2]
    assert squared_error(x, y).shape == (3,)
    assert torch.allclose(squared_error(x, y), torch.linalg.vector_norm((x - y).flatten(1), dim=1).square())


# ---- guards


@pytest.mark.parametrize("name", ["f_gap", "prior_spread", "posterior_spread"])
@pytest.mark.parametrize("value", [1e3, math.nan])
def test_divergence_is_an_error(name, value):
    fine = {"f_gap": torch.tensor(-3.0), "prior_spread": torch.tensor(1.2), "posterior_spread": torch.tensor(1.0)}
    model = small()
    model.check(fine, 7)
    with pytest.raises(DivergenceError, match=rf"diverges at step 7: {name} is .*; lower energy_lr"):
        model.check(fine | {name: torch.tensor(value)}, 7)


def test_divergence_stops_training(tmp_path):
    with pytest.raises(DivergenceError, match=r"prior_spread is .*, expected at most 0.1; "):
        fit(small(max_spread=0.1), LawData(BLOBS, train_size=20, val_size=5, test_size=5), tmp_path, max_steps=1)


def fit(model: LatentEBM, data: LawData, folder, **options) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu",
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **quiet,
        **options,
    )
    optimizer = partial(torch.optim.Adam, lr=2e-3, fused=True)
    trainer.fit(Training(model, optimizer, ConstantRate(), averaging=None), data)
    return trainer


@pytest.mark.parametrize("arguments", [{"sigma": 0.0}, {"energy_bound": -1.0}, {"rho": -0.1}, {"energy_lr": 0.0}])
def test_numbers_out_of_range(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}.*found"):
        small(**arguments)


def test_flat_space_only():
    with pytest.raises(ValueError, match=r"is not a vector space.*choose Euclidean"):
        LatentEBM(Sphere(2))


@pytest.mark.parametrize("arguments", [{"draws": 8}, {"modes": 0}, {"defensive": 1.0}, {"refinements": -1}])
def test_importance_sampling_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"ImportanceSampling: .* are needed, found"):
        ImportanceSampling(**arguments)


# ---- samples and densities


def test_samples_by_formula():
    """x = g(z) + σε, or g(z), with z from the prior chain; no steps leave z at p_0."""
    noisy, plain = (small(noise=noise, sigma=0.7).sample(4000, seed=0) for noise in (True, False))
    assert within((noisy - plain).square().mean(1), 0.7**2)
    model = small(noise=False, prior_chain=STILL, sigma_0=0.5)
    start = 0.5 * torch.randn(6, 2, generator=seeded(3))
    assert torch.allclose(model.sample(6, seed=3), model.law.decode(start))


def test_likelihood_of_a_linear_decoder():
    """f = 0: the normal law N(0, σ0² W Wᵀ + σ²)."""
    model = small(3, decoder=Linear, sigma_0=0.8, sigma=0.4)
    with torch.no_grad():
        model.law.energy.layers[-1].weight.zero_()
    w = model.law.decoder.layer.weight.detach().double()
    covariance = 0.8**2 * w @ w.T + 0.4**2 * torch.eye(3, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
    x = 0.5 * points(8, 3).double()
    assert_unbiased(model, x, law.log_prob(x))


def test_likelihood_against_quadrature():
    """A bent decoder, an energy of some nats, sums over a lattice in both latent coordinates."""
    model = small(3, posterior_chain=LangevinChain(20, 0.005))
    with torch.no_grad():
        for layer in (*model.law.energy.layers, *model.law.decoder.layers[:1]):
            layer.weight.mul_(1.8)
    axis = torch.linspace(-7, 7, 561, dtype=torch.float64)
    z, cell = torch.cartesian_prod(axis, axis), math.log(14 / 560) * 2
    law = model.law.double()
    assert law.tilt(z[law.reference.log_prob(z) > -4]).std() > 0.5
    x = model.sample(8, seed=0).double()
    with torch.no_grad():
        normaliser = law.log_prior(z).logsumexp(0)
        marginal = [law.log_joint(z, row.expand(len(z), 3)).logsumexp(0) for row in x]
    exact = torch.stack(marginal) - normaliser
    assert float(normaliser + cell) != pytest.approx(0, abs=0.1)
    assert_unbiased(model, x, exact)


@pytest.mark.parametrize("chain", ["prior_chain", pytest.param("posterior_chain", marks=pytest.mark.slow)])
def test_chains_that_leave_the_range_of_numbers(chain):
    """The posterior's can be done without, the prior's are the model."""
    model = small(**{chain: LangevinChain(2000, 1e3)})
    if chain == "posterior_chain":
        assert torch.isfinite(model.log_prob(points(5))).all()
    else:
        with pytest.raises(SolveError, match=r"chains leave the range of numbers; lower the step of prior_chain"):
            model.log_prob(points(5))


def assert_unbiased(model: LatentEBM, x: torch.Tensor, exact: torch.Tensor) -> None:
    """Each point's ratio of estimated and exact density is one over seeds, to 5 standard errors; a seed repeats."""
    found = []
    for seed in range(12):
        model.marginal = ImportanceSampling(seed=seed)
        result = model.likelihood(x)
        assert not result.exact
        found.append((result.value - exact).exp())
    assert torch.equal(model.log_prob(x), result.value)
    assert within(torch.stack(found), 1.0)
    # a seed's error is that of a fraction of a nat
    assert (torch.stack(found).mean(1) - 1).abs().max() < 0.5


def test_parts_of_many_points_have_draws_of_their_own(monkeypatch):
    """In a mixture too: the same point twice, in two parts, has two estimates with independent errors."""
    monkeypatch.setattr("rsgm.likelihood.parts.PART", 4)
    marginal = ImportanceSampling(draws=16, modes=2, prior_draws=64)
    monkeypatch.setattr("rsgm.models.latent_marginal._CHUNK", 4 * 16 * 64)
    model, x = small(marginal=marginal), points(4).repeat(2, 1)
    for law in (model, ModelMixture([model])):
        first, second = law.log_prob(x).split(4)
        assert (first != second).all()
        assert torch.equal(law.log_prob(x)[:4], first)
        # as alone, where there is one part
        assert torch.equal(law.log_prob(x[:4]), first)


# ---- figures


def test_figures_of_the_plane_and_of_pictures():
    data = LawData(BLOBS, train_size=9, val_size=9, test_size=40)
    data.setup()
    x = data.test.points
    figures = _draw_latents(data, small().latents(x, seed=0), x, "a model")
    assert figures.keys() == {"latents", "decoded"}
    headings = [axes.get_title() for axes in figures["decoded"].axes[:4]]
    assert headings == ["test (40)", "z ~ p_0 (40)", "z ~ p_alpha (40)", "z ~ p(z|x) (40)"]
    digits = DigitsData()
    digits.setup()
    x = digits.test.points[:10]
    latents = small(64, noise=False).latents(x, seed=0)
    figures = _draw_latents(digits, latents, x, "a model")
    assert figures.keys() == {"latents", "reconstructions"}
    mosaic = figures["reconstructions"].axes[0].images[0].get_array()
    assert torch.allclose(torch.as_tensor(mosaic[:8, :8, 0].copy()), x[0].reshape(8, 8))
    again = latents["p(z|x)"].x[0].double().clamp(0, 1).reshape(8, 8)
    assert torch.allclose(torch.as_tensor(mosaic[:8, 9:17, 0].copy()), again)
    assert _draw_latents(data, {}, x, "a model") == {}


# ---- a likelihood where chains are too long for it


def linear(dim: int, latent_dim: int, sigma: float, **arguments) -> LatentEBM:
    """x = W z + noise with f = -|z|²/4, whose marginal is normal: p_α is N(0, I / 1.5)."""
    model = small(dim, latent_dim=latent_dim, decoder=Linear, energy=Bowl, sigma=sigma, **arguments)
    with torch.no_grad():
        model.law.decoder.layer.weight.copy_(torch.randn(dim, latent_dim, generator=seeded(2)))
    return model


class Bowl(Network):
    """-|z|²/4."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()

    def forward(self, t, x, context=None):
        return -0.25 * x.square().sum(1, keepdim=True)


def exact_linear(model: LatentEBM, x: torch.Tensor) -> torch.Tensor:
    w, dim = model.law.decoder.layer.weight.detach().double(), model.manifold.dim
    covariance = w @ w.T / 1.5 + model.law.sigma**2 * torch.eye(dim, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(torch.zeros(dim, dtype=torch.float64), covariance).log_prob(x)


@pytest.mark.parametrize("dim, latent_dim, sigma", [(20, 8, 0.3), (10, 2, 0.1)])
def test_likelihood_where_the_default_chain_is_unstable(dim, latent_dim, sigma):
    """Step times the largest precision is beyond 2: ends of chains are thrown away, and were proposals once."""
    model = linear(dim, latent_dim, sigma)
    w = model.law.decoder.layer.weight
    precision = torch.linalg.eigvalsh(w.T @ w / sigma**2).max() + 1.5
    assert model.posterior_chain.step * precision > 8
    x = model.sample(40, seed=0).double()
    found = model.likelihood(x)
    assert (found.value - exact_linear(model, x)).abs().max() < 0.2
    # nearly half of the draws are of normal laws that fit
    assert found.draws.shape == (40,)
    assert 20 < found.draws.min() <= found.draws.max() <= 256


@pytest.mark.parametrize("defensive", [0.1, 0.9])
def test_likelihood_at_other_shares_of_the_prior(defensive):
    """Each part of the proposal has its share of the draws in the density of the mixture."""
    model = linear(3, 2, 0.5)
    x = 0.5 * points(8, 3).double()
    ratio = []
    for seed in range(12):
        model.marginal = ImportanceSampling(seed=seed, defensive=defensive)
        ratio.append((model.likelihood(x).value - exact_linear(model, x)).exp())
    assert within(torch.stack(ratio), 1.0)
    assert (torch.stack(ratio).mean(1) - 1).abs().max() < 0.2


def test_effective_draws_tell_a_poor_proposal():
    """A proposal that is p_0 alone, or nearly so, has few draws where the posterior is."""
    model = linear(20, 8, 0.3)
    x = model.sample(10, seed=0).double()
    good = model.likelihood(x).draws
    model.marginal = ImportanceSampling(defensive=0.99, refinements=0)
    assert (model.likelihood(x).draws < good / 4).all()


class Steep(Network):
    """Derivatives beyond the range of numbers, of values within it."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(in_features, out_features, bias=False)

    def forward(self, t, x, context=None):
        return (1e200 * self.layer(x)).sin()


def test_a_matrix_without_a_factor_is_an_error_in_words():
    with pytest.raises(SolveError, match=r"out of the range of numbers at \d+ of \d+ places: the decoder is too steep"):
        small(3, decoder=Steep, posterior_chain=STILL).log_prob(points(5, 3))
