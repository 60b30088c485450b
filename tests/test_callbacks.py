"""What happens beside training, each part by itself: the average, whole files, the clock, when `last` is written."""

import os
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from rsgm import ChartSGM, Euclidean, PointsData, Training
from rsgm.charts import Standardise
from rsgm.data import LawData
from rsgm.networks import MLP
from rsgm.training import callbacks
from rsgm.training.callbacks import EMA, AtomicCheckpointIO, Cost, LastCheckpoint


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999, 1.0])
def test_decay_of_the_average(decay):
    """min(d, (1 + k) / (10 + k)) after k steps: of the average so much is kept, the rest comes from the weights."""
    for k in (0, 1, 5, 200, 10**6):
        averages, weights = [torch.tensor([2.0, 4.0])], [torch.tensor([12.0, -6.0])]
        EMA(decay)._average(averages, weights, k)
        kept = min(decay, (1 + k) / (10 + k))
        expected = kept * torch.tensor([2.0, 4.0]) + (1 - kept) * weights[0]
        torch.testing.assert_close(averages[0], expected, rtol=0, atol=1e-5)


class Normed(MLP):
    """With a buffer that training moves."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, t, x, context=None):
        return super().forward(t, self.norm(x), context)


class Look(Callback):
    """The buffers that are validated with, and that are written within an epoch."""

    def __init__(self, path):
        self.path, self.validated = path, []

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validated.append({name: value.clone() for name, value in pl_module.model.named_buffers()})

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)


def test_the_average_has_the_buffers_of_the_model(tmp_path):
    """Those that are fitted in one pass before training, of whatever size, and those that training moves."""
    x = 5 + 3 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    data = PointsData(Euclidean(2), x, batch_size=50, steps_per_epoch=4)
    model = ChartSGM(Euclidean(2), chart=Standardise, network=partial(Normed, hidden=[8]))
    look = Look(tmp_path / "middle.ckpt")
    trainer = Trainer(
        max_steps=8,
        accelerator="cpu",
        callbacks=[look],
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
    )
    trainer.fit(Training(model), data)
    mean = data.train.points.mean(0).float()
    written = torch.load(look.path, weights_only=False)["state_dict"]
    found = [
        *look.validated,
        dict(model.named_buffers()),
        {key.removeprefix("model."): written[key] for key in written},
    ]
    counts = []
    for buffers in found:
        torch.testing.assert_close(buffers["chart.mean"], mean)
        counts += [int(value) for name, value in buffers.items() if name.endswith("num_batches_tracked")]
    assert counts == [4, 8, 8, 3]


def test_decay_is_checked():
    for decay in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"EMA: decay must be in \[0, 1\], found"):
            EMA(decay)


def test_a_checkpoint_takes_the_old_one_s_place_when_it_is_whole_and_on_disk(tmp_path, monkeypatch):
    path, calls = tmp_path / "last.ckpt", []
    replace, fsync = os.replace, os.fsync

    def replace_when_whole(partial, target):
        calls.append("rename")
        assert torch.load(partial) == {"step": 2}
        assert torch.load(target) == {"step": 1}
        replace(partial, target)

    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(os, "replace", replace_when_whole)
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("flush"), fsync(file)))
    AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert calls == ["flush", "rename", "flush"]  # the file, and its name in the folder
    assert torch.load(path) == {"step": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_clock_of_a_run(monkeypatch):
    """Wall and processor seconds of training, each by its own clock, without what validation took."""
    now = SimpleNamespace(wall=100.0, cpu=10.0)
    clock = SimpleNamespace(perf_counter=lambda: now.wall, process_time=lambda: now.cpu)
    monkeypatch.setattr(callbacks, "time", clock)
    data, model = LawData(batch_size=8, train_size=1, val_size=1, test_size=1), torch.nn.Linear(1, 1)
    data.setup()
    trainer = SimpleNamespace(
        training=True, validating=False, global_step=7, accumulate_grad_batches=2, datamodule=data
    )
    record, checkpoint = Cost(), {}

    def passes(wall: float, cpu: float) -> None:
        now.wall, now.cpu = now.wall + wall, now.cpu + cpu

    def spent(checkpoint: dict) -> tuple:
        return tuple(checkpoint["rsgm"]["training"][key] for key in ("wall", "cpu", "steps", "points"))

    record.on_load_checkpoint(trainer, None, {"rsgm": {"training": {"wall": 1000.0, "cpu": 500.0}}})
    passes(50, 50)
    record.on_train_start(trainer, None)
    passes(2, 1)
    record.on_validation_start(trainer, None)
    passes(30, 20)
    record.on_validation_end(trainer, None)
    passes(4, 3)
    record.on_save_checkpoint(trainer, model, checkpoint)
    assert spent(checkpoint) == (1006.0, 504.0, 7, 7 * 2 * 8)
    # a checkpoint does not stop the clock, the end does
    passes(1, 0.5)
    record.on_train_end(trainer, None)
    passes(9, 9)
    record.on_save_checkpoint(trainer, model, checkpoint)
    assert spent(checkpoint) == (1007.0, 504.5, 7, 7 * 2 * 8)


def test_when_the_last_checkpoint_is_written(tmp_path):
    """Every so many steps but not at the end of an epoch, whose validation follows; each step once; finite weights."""
    written, flushed, logged = [], [], []
    total = SimpleNamespace(ready=1, processed=1)
    progress = SimpleNamespace(current=SimpleNamespace(processed=1, completed=0), total=total)
    trainer = SimpleNamespace(
        global_step=0,
        is_last_batch=False,
        should_stop=False,
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        lightning_module=SimpleNamespace(model=SimpleNamespace(is_finite=lambda: trainer.finite)),
        save_checkpoint=lambda path: written.append((trainer.global_step, path.name)),
        finite=True,
        validating=False,
        is_global_zero=True,
        max_steps=-1,
        loggers=[SimpleNamespace(save=lambda: flushed.append(trainer.global_step))],
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        _logger_connector=SimpleNamespace(update_train_step_metrics=lambda: logged.append(trainer.global_step)),
        _checkpoint_connector=SimpleNamespace(dump_checkpoint=dict),
        strategy=SimpleNamespace(save_checkpoint=lambda _, path: trainer.save_checkpoint(path)),
    )
    last = LastCheckpoint(tmp_path / "last.ckpt", every=3)
    for step in range(1, 11):
        trainer.global_step, trainer.is_last_batch = step, step in (6, 10)
        last.on_train_batch_end(trainer)
        if trainer.is_last_batch:
            last.on_validation_end(trainer)
            last.on_train_epoch_end(trainer)
    last.on_train_end(trainer)
    assert written == [(step, "last.ckpt") for step in (3, 6, 9, 10)]
    # a checkpoint is never ahead of the curve
    assert flushed == logged == [3, 6, 9, 10]
    trainer.global_step, trainer.finite = 12, False
    last.on_exception(trainer, None, KeyboardInterrupt())
    assert len(written) == 4
    trainer.finite = True
    last.on_exception(trainer, None, KeyboardInterrupt())
    assert written[-1] == (12, "last.ckpt")
    # validation outside of training writes nothing
    trainer.state.fn, trainer.global_step = "validate", 20
    last.on_validation_end(trainer)
    assert len(written) == 5
