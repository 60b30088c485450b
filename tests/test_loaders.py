"""Batches are functions of their position: across epochs, processes, accumulation, and after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from rsgm.data import LawData, ManifoldData
from rsgm.manifolds import Sphere
from rsgm.seeding import generator_from


class Points(ManifoldData):
    """Random points, with or without context."""

    def __init__(self, n=200, context=False, **arguments):
        super().__init__(**arguments)
        self.n, self.context = n, context

    manifold = property(lambda self: Sphere(2))

    def points(self):
        x = self.manifold.random_uniform(self.n, 3, generator=generator_from("points"), dtype=torch.float64)
        return (x, x[:, :1]) if self.context else x


def data(**arguments):
    return Points(**{"batch_size": 16, "steps_per_epoch": 6, "eval_batch_size": 8} | arguments)


def digest(batch) -> str:
    return hashlib.sha256(batch[0].numpy().tobytes()).hexdigest()[:12]


def process(rank: int, world_size: int) -> SimpleNamespace:
    return SimpleNamespace(global_rank=rank, world_size=world_size, global_step=0)


# ---- without a trainer


def test_a_batch_is_a_function_of_seed_and_position():
    one, two = (list(data(seed=1).train_dataloader()) for _ in range(2))
    assert len(one) == 6
    assert [digest(batch) for batch in one] == [digest(batch) for batch in two]
    assert [digest(batch) for batch in one] == [digest(data(seed=1).train_batch(k)) for k in range(6)]
    assert len({digest(batch) for batch in one} | {digest(data(seed=2).train_batch(0))}) == 7
    assert len({digest(data().train_batch(0, place)) for place in range(3)}) == 3
    assert one[0][0].dtype == torch.float32


def test_batches_of_one_split_differ_by_the_seed():
    one, two = data(seed=1), data(seed=2)
    one.setup()
    two.setup()
    two.train = one.train
    assert digest(one.train_batch(0)) != digest(two.train_batch(0))


def test_an_epoch_goes_on_where_the_last_one_ended():
    loader = data().train_dataloader()
    seen = [digest(batch) for _ in range(2) for batch in loader]
    assert seen == [digest(data().train_batch(k)) for k in range(12)]


def test_rows_are_drawn_with_replacement_from_train_only():
    some = data(batch_size=2000)
    x, _ = some.train_batch(0)
    assert torch.isin(x, some.train.points.float()).all()
    assert len(x.unique(dim=0)) == len(some.train.points)


def test_context_follows_its_point():
    for rank in (None, 0, 1):
        some = data(context=True)
        if rank is not None:
            some.trainer = process(rank, 2)
        for loader in (some.train_dataloader(), some.val_dataloader(), some.test_dataloader()):
            for x, context in loader:
                assert torch.equal(x[:, :1], context)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("n, eval_batch_size", [(200, 10), (203, 8), (203, 512), (1000, 1)])
def test_processes_share_every_batch_and_score_every_point_once(world_size, n, eval_batch_size):
    shares, scored = [], []
    for rank in range(world_size):
        some = data(n=n, eval_batch_size=eval_batch_size)
        some.trainer = process(rank, world_size)
        shares.append(next(iter(some.train_dataloader()))[0])
        scored.append([x for x, _ in some.val_dataloader()])
    whole = data(n=n).train_batch(0)[0]
    for rank, share in enumerate(shares):
        assert torch.equal(share, whole[rank::world_size])
    val = some.val.points
    assert sorted(torch.cat([x for batches in scored for x in batches]).tolist()) == sorted(val.tolist())
    assert len({len(batches) for batches in scored}) == 1
    assert min(len(x) for batches in scored for x in batches) >= 1
    if world_size == 1:
        assert torch.equal(torch.cat(scored[0]), val)
        assert max(map(len, scored[0])) <= eval_batch_size
        assert len(scored[0]) == -(-len(val) // eval_batch_size)


@pytest.mark.parametrize("world_size", [1, 2])
def test_validation_on_a_fixed_share_of_its_points(world_size):
    """The same draw for every process, epoch and run, a function of the seed; what is fitted sees all."""
    scored = []
    for rank in range(world_size):
        some = data(n=400, val_points=11, eval_batch_size=4)
        some.trainer = process(rank, world_size)
        loader = some.val_dataloader()
        scored += [x for _ in range(2) for x, _ in loader]
    points = torch.cat(scored).unique(dim=0)
    assert len(points) == 11
    assert len(torch.cat(scored)) == 22
    assert torch.isin(points, some.val.points).all()
    assert len(some.val.points) == 40
    assert len(torch.cat([x for x, _ in some.test_dataloader()])) == -(-40 // world_size)
    assert some.provenance()["split"]["val_points"] == 11


def test_another_seed_draws_other_places_of_the_validation_part():
    positions = []
    for seed in (0, 1):
        some = data(n=400, val_points=11, seed=seed)
        ((x, _),) = data(n=400, val_points=11, seed=seed, eval_batch_size=11).val_dataloader()
        some.setup()
        positions.append((some.val.points[None] == x[:, None]).all(2).nonzero()[:, 1].tolist())
    assert positions[0] == sorted(positions[0]) != list(range(11))
    assert positions[0] != positions[1]


@pytest.mark.parametrize("val_points", [None, 20, 21, 1000])
def test_validation_on_all_points(val_points):
    some = data(n=200, val_points=val_points)
    assert torch.equal(torch.cat([x for x, _ in some.val_dataloader()]), some.val.points)
    assert some.provenance()["split"]["val_points"] == 20


def test_batches_that_cannot_be_shared_are_errors():
    some = data(batch_size=15, n=10)
    some.trainer = process(0, 2)
    with pytest.raises(ValueError, match=r"batch_size=15 is the batch of all processes.*a multiple of 2"):
        some.train_dataloader()
    with pytest.raises(ValueError, match="1 val points are too few for 2 processes"):
        some.val_dataloader()


# ---- with a trainer


class Killed(BaseException):
    """Ends a run as a lost machine would."""


class Recorder(pl.LightningModule):
    """A tiny regression that notes which batches it has seen; dies before batch number `dies`."""

    def __init__(self, dies: int | None = None, error: type[BaseException] = Killed):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.dies, self.error, self.seen, self.scored = dies, error, [], 0

    def training_step(self, batch, index):
        if len(self.seen) == self.dies:
            raise self.error
        self.seen.append(digest(batch))
        x, context = batch
        assert context is None
        return (x @ self.weight - 1).square().mean()

    def validation_step(self, batch, index):
        x, context = batch
        assert context is None
        assert x.dtype == torch.float64
        self.scored += len(x)
        self.log("val", (x.float() @ self.weight).mean(), batch_size=len(x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.1)


def run(folder, model, ckpt_path=None, checkpoint=None, **trainer):
    callback = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **(checkpoint or {}))
    pl.Trainer(
        **{"max_epochs": -1, "check_val_every_n_epoch": None, "val_check_interval": 7} | trainer,
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, datamodule=data(), ckpt_path=ckpt_path)
    return model


def newest(folder) -> Path:
    return max(Path(folder).glob("*.ckpt"), key=lambda path: int(path.stem.partition("=")[2]))


def check_continues(resumed, whole):
    """The resumed model saw what the uninterrupted one saw after the checkpoint, and ends up the same."""
    done = len(whole.seen) - len(resumed.seen)
    assert done > 0
    assert resumed.seen == whole.seen[done:]
    assert torch.equal(resumed.weight, whole.weight)


BY_STEP = {"every_n_train_steps": 4}
BY_EPOCH = {"every_n_epochs": 1, "save_on_train_epoch_end": True}
CASES = {
    "middle of an epoch": ({"max_steps": 20}, BY_STEP, 11),
    "end of an epoch": ({"max_steps": 20}, {"every_n_train_steps": 6}, 14),
    "end of an epoch, saved by its hook": ({"max_steps": 20}, BY_EPOCH, 14),
    "end of an epoch, epochs only": ({"max_epochs": 3}, BY_EPOCH, 14),
    "middle of an epoch, epochs only": ({"max_epochs": 3}, BY_STEP, 11),
    "after a validation": ({"max_steps": 20}, {"monitor": "val"}, 12),
    "accumulation, middle": ({"max_steps": 12, "accumulate_grad_batches": 2}, {"every_n_train_steps": 4}, 11),
    "accumulation, end": ({"max_steps": 12, "accumulate_grad_batches": 2}, {"every_n_train_steps": 3}, 14),
    # six batches are one step of four and one of two
    "accumulation, uneven": ({"max_steps": 8, "accumulate_grad_batches": 4}, {"every_n_train_steps": 3}, 15),
}


@pytest.mark.parametrize("trainer, checkpoint, dies", CASES.values(), ids=CASES)
def test_a_resumed_run_draws_the_same_batches(tmp_path, trainer, checkpoint, dies):
    whole = run(tmp_path / "whole", Recorder(), checkpoint=checkpoint, **trainer)
    assert len(set(whole.seen)) == len(whole.seen)
    with pytest.raises(Killed):
        run(tmp_path / "cut", Recorder(dies), checkpoint=checkpoint, **trainer)
    resumed = run(tmp_path / "cut", Recorder(), newest(tmp_path / "cut"), checkpoint, **trainer)
    check_continues(resumed, whole)


def test_steps_without_accumulation_are_batches_in_order(tmp_path):
    whole = run(tmp_path, Recorder(), max_steps=14)
    assert whole.seen == [digest(data().train_batch(k)) for k in range(14)]


@pytest.mark.parametrize("first, then", [(8, 15), (12, 15)], ids=["middle of an epoch", "end of an epoch"])
def test_a_finished_run_is_extended(tmp_path, first, then):
    whole = run(tmp_path / "whole", Recorder(), max_steps=then)
    checkpoint = {"every_n_train_steps": 1}
    run(tmp_path / "cut", Recorder(), checkpoint=checkpoint, max_steps=first)
    resumed = run(tmp_path / "cut", Recorder(), newest(tmp_path / "cut"), checkpoint, max_steps=then)
    check_continues(resumed, whole)


def test_a_checkpoint_written_by_an_exception_continues_and_again(tmp_path):
    """The batch that was being computed is drawn again, not skipped."""
    whole = run(tmp_path / "whole", Recorder(), max_steps=20)
    checkpoint = {"save_on_exception": True, "every_n_train_steps": 100}
    path, seen = None, []
    for dies in (4, 7):
        model = Recorder(dies, RuntimeError)
        with pytest.raises(RuntimeError):
            run(tmp_path / "cut", model, path, checkpoint, max_steps=20)
        path = max((tmp_path / "cut").glob("*.ckpt"), key=lambda file: file.stat().st_mtime_ns)
        seen += model.seen
    resumed = run(tmp_path / "cut", Recorder(), path, checkpoint, max_steps=20)
    assert seen + resumed.seen == whole.seen
    assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_an_epoch(tmp_path):
    script = (
        "import os, signal, sys, test_loaders\n"
        "class Dying(test_loaders.Recorder):\n"
        "    def training_step(self, batch, index):\n"
        "        if len(self.seen) == 10: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().training_step(batch, index)\n"
        "test_loaders.run(sys.argv[1], Dying(), checkpoint=test_loaders.BY_STEP, max_steps=20)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", script, str(tmp_path / "cut")]
    ended = subprocess.run(command, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert newest(tmp_path / "cut").stem == "step=8"
    whole = run(tmp_path / "whole", Recorder(), max_steps=20)
    resumed = run(tmp_path / "cut", Recorder(), newest(tmp_path / "cut"), BY_STEP, max_steps=20)
    assert len(resumed.seen) == 12
    check_continues(resumed, whole)


def test_lightning_does_not_warn_and_scores_every_point(tmp_path, recwarn):
    options = {"num_sanity_val_steps": 0, "val_check_interval": 4}
    model = run(tmp_path, Recorder(), checkpoint=BY_STEP, max_steps=8, **options)
    run(tmp_path, Recorder(), newest(tmp_path), max_steps=13)
    assert model.scored == 2 * 20
    texts = [str(warning.message) for warning in recwarn]
    assert not [text for text in texts if "resum" in text or "batch_size" in text]


def test_streams_are_shared_and_resumed_alike():
    whole = LawData(batch_size=8, train_size=1, val_size=1, test_size=1)
    shares = []
    for rank in range(2):
        stream = LawData(batch_size=8, train_size=1, val_size=1, test_size=1)
        stream.trainer = process(rank, 2)
        shares.append(next(iter(stream.train_dataloader()))[0])
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole.train_batch(0)[0])
