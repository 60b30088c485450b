"""A run on a CUDA device, against the CPU: `pytest -m gpu`."""

from functools import partial

import pytest
import torch

import rsgm
from conftest import STATE_SPACES, concrete, variants
from helpers import learned
from rsgm import RSGM, KernelDensity, LawData, Sphere
from rsgm.fields import NetworkField
from rsgm.losses import Loss
from rsgm.networks import MLP

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

NETWORK = partial(MLP, hidden=[32, 32])


def trained(model, folder, steps=20):
    """After a run on the device: the model, and its checkpoint read on the CPU."""
    data = LawData(train_size=200, val_size=32, test_size=32, batch_size=64, steps_per_epoch=steps)
    path, _ = learned(model if model.trainable else model.cuda(), data, folder, accelerator="gpu", max_epochs=1)
    assert rsgm.models.read_checkpoint(path)["rsgm"]["training"]["steps"] == (steps if model.trainable else 0)
    return model.cuda().eval(), rsgm.load(path), data


@pytest.mark.parametrize("make", variants(Loss))
@pytest.mark.parametrize("field", [cls for cls in concrete(NetworkField) if cls.__name__ not in STATE_SPACES])
def test_train_sample_and_score(make, field, tmp_path):
    torch.manual_seed(0)
    there, here, data = trained(RSGM(Sphere(2), network=NETWORK, field=field, loss=make()), tmp_path)
    assert there.device.type == "cuda"
    x = there.sample(100, seed=0)
    assert x.device.type == "cuda"
    assert torch.equal(x, there.sample(100, seed=0))
    assert there.manifold.check_point_on_manifold(x, atol=1e-6, rtol=0)
    on_device, on_cpu = there.log_prob(data.test.points), here.log_prob(data.test.points)
    assert on_device.device.type == "cuda"
    assert torch.allclose(on_device.cpu(), on_cpu, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_losses_agree(dim):
    """Of the same points, times and noise, drawn on the CPU."""
    torch.manual_seed(0)
    model = RSGM(Sphere(dim), network=NETWORK)
    process, score = model.process, model.score
    x0 = process.manifold.random_uniform(64, dim + 1)
    t = 0.05 + 0.9 * torch.rand(64)
    x = process.perturb(x0, t)
    here = process.conditional_score(x0, x, t), *score.with_divergence(t, x, process.manifold.frame(x))
    x0, x, t, _ = x0.cuda(), x.cuda(), t.cuda(), model.cuda()
    there = process.conditional_score(x0, x, t), *score.with_divergence(t, x, process.manifold.frame(x))
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(one, other.cpu(), rtol=1e-4, atol=1e-4)


def test_kernel_density(tmp_path):
    data = LawData(train_size=200, val_size=32, test_size=32)
    data.setup()
    there = KernelDensity(Sphere(2), widths=5).cuda()
    there.fit_points(data.train.points.cuda(), data.val.points.cuda())
    there.save(tmp_path / "model.ckpt")
    here = rsgm.load(tmp_path / "model.ckpt")
    assert there.sample(10, seed=0).device.type == "cuda"
    found = there.log_prob(data.test.points).cpu()
    assert torch.allclose(found, here.log_prob(data.test.points), rtol=0, atol=1e-6)
