"""The command `train.py`, and the verb `rsgm train`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from rsgm.cli import runs
from rsgm.cli.configs import by_name
from rsgm.cli.errors import in_one_line, of_a_state, of_settings
from rsgm.cli.events import Events, log_result
from rsgm.cli.explain import UsageError
from rsgm.cli.parser import Parser, mended, require_given, require_settings
from rsgm.cli.placeholders import fill_in
from rsgm.data import ManifoldData
from rsgm.evaluation import evaluate, report
from rsgm.models import GenerativeModel, NonFiniteLossError, read_checkpoint, write_checkpoint
from rsgm.progress import patience, visible
from rsgm.training import (
    AtomicCheckpointIO,
    DensityFigure,
    FinalValidation,
    Interruption,
    LastCheckpoint,
    Outlook,
    ProcessLost,
    SampleFigure,
    Signals,
    Stopped,
    Training,
    Watch,
    fit_in_one_pass,
    quiet,
    require_one_split,
    require_same_data,
)


class TrainCLI(LightningCLI):
    """LightningCLI without subcommands: a model, its training, data and a trainer from YAML files and overrides.

    The model is a law, and `model` of this class is the `Training` that wraps it; None of a law that is fitted in one
    pass.
    """

    law: GenerativeModel
    run: Path

    def __init__(
        self, args: list[str] | None = None, signals: Signals | None = None, command: str = "train.py"
    ) -> None:
        given = sys.argv[1:] if args is None else args
        self._given = by_name(given)
        self.signals = signals or Signals()
        self.interruption = Interruption(self.signals)
        #: the command that continues this run
        self.again = _to_go_on(command, given)
        for file in self._config_files():
            require_settings(file)
        with mended():
            super().__init__(
                Training,
                ManifoldData,
                save_config_callback=None,
                seed_everything_default=0,
                trainer_defaults={"num_sanity_val_steps": 0, "log_every_n_steps": 50},
                parser_class=Parser,
                parser_kwargs={"parser_mode": "omegaconf+", "allow_abbrev": False},
                args=self._given,
                run=False,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The model, how it is learned, its data and a trainer."""
        parser.add_subclass_arguments(GenerativeModel, "model", required=True)
        # made here, of the model above
        parser.add_class_arguments(Training, "training", skip={"model"}, instantiate=False)
        parser.add_subclass_arguments(ManifoldData, "data", required=True)
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The arguments beside model, data and trainer."""
        parser.add_argument("--name", type=str | None, default=None, help="Name of the run (default: of the config).")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs.")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Continue from a checkpoint; `last` is the newest run's.",
        )
        parser.add_argument(
            "--save_every", type=PositiveInt, default=500, help="Steps between two writes of last.ckpt."
        )

    def before_instantiate_classes(self) -> None:
        """Give the data the run's seed, unless they have their own."""
        arguments = self.config.data.init_args
        if arguments.get("seed") is None:
            arguments["seed"] = self.config.seed_everything

    def instantiate_classes(self) -> None:
        """Make everything that the configuration describes: the data first, which say what the model leaves open."""
        parts = dict(vars(self.config))
        self.datamodule = self.parser.instantiate_classes(Namespace(data=parts.pop("data")))["data"]
        require_given(self.datamodule, self.config.data.init_args, "data")
        # a data set that is missing or wrong must not leave an empty run folder behind
        with patience("Reading the data …") if runs.is_first() else nullcontext():
            self.datamodule.prepare_data()
            self.datamodule.setup()
        fill_in(self.config.model, self.datamodule)
        self.config_init = self.parser.instantiate_classes(Namespace(parts))
        self.config_init["data"], self.law = self.datamodule, self.config_init["model"]
        require_given(self.law, self.config.model.get("init_args", Namespace()), "model")
        self.model = Training(self.law, **self.config_init["training"]) if self.law.trainable else None
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Choose the run folder; add the logger, the checkpoints and the figures of the run."""
        places = self.law.manifold, self.datamodule.manifold
        if str(places[0]) != str(places[1]):
            raise UsageError(
                f"The model is on {places[0]}, with points of shape {tuple(places[0].shape)}, and the data are on "
                f"{places[1]}, with points of shape {tuple(places[1].shape)}; give both the same manifold, or "
                "--model.manifold=rsgm.from_data."
            )
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
            if self.config_init["trainer"].get(name) == 0:  # by which Lightning divides
                without = "" if name.startswith("acc") else "; without validation: trainer.limit_val_batches=0"
                raise UsageError(f"trainer.{name} is 0, expected at least 1{without}.")
        self.run = self._run_folder()
        self._dump_config()
        self.law.description = self.config_dump["model"]
        config = self.config_init["trainer"]
        if config.get("logger") in (None, True):
            folder = {"name": self.run.parent.name, "version": self.run.name}
            kwargs["logger"] = Events(self.run.parent.parent, **folder, default_hp_metric=False)
        best = ModelCheckpoint(
            self.run,
            "best",
            monitor="val/nll",
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,  # but after each validation, before `last` is written
            enable_version_counter=False,
        )
        self.last = LastCheckpoint(self.run / "last.ckpt", self.config.save_every)
        callbacks = [SampleFigure(), DensityFigure(), Outlook(), FinalValidation(), best, self.last, self.interruption]
        if config.get("enable_progress_bar") is not False:
            callbacks.append(TQDMProgressBar(refresh_rate=50))
        kwargs["plugins"] = [*_as_list(config.get("plugins")), AtomicCheckpointIO()]
        trainer_config = {**config, **kwargs}
        try:
            trainer = self._instantiate_trainer(trainer_config, callbacks)
            if self.model is not None:
                self.model.require_precision(trainer.precision)
            return trainer
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            raise UsageError(f"trainer: {error}") from error

    def _config_files(self) -> list[str]:
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config", action="append", default=[])
        return first.parse_known_args(self._given)[0].config

    def _run_folder(self) -> Path:
        # not from self.config, which forgets its files where one of them has an interpolation
        files = self._config_files()
        name = self.config.name or (Path(files[0]).stem if files else "run")
        folder, self.config.ckpt_path = runs.claim(runs.base(self.config.runs, name), self.config.ckpt_path)
        return folder


def train(args: list[str] | None = None, command: str = "train.py") -> int:
    """Train a model and score its best checkpoint; the exit status."""
    # a module of one's own is found beside the command, as it is by `python`
    sys.path.append(os.getcwd())
    with Signals() as signals:
        try:
            with in_one_line(command) as failure, quiet():
                with of_settings():
                    cli = TrainCLI(args, signals, command)
                return _train(cli)
            return failure.status
        finally:
            runs.release()


def _train(cli: TrainCLI) -> int:
    trainer, run, resume, signals = cli.trainer, cli.run, cli.config.ckpt_path, cli.signals
    if resume is not None:
        require_same_data(read_checkpoint(resume), cli.datamodule)
    if trainer.is_global_zero:
        print(f"Run folder: {run}")
        with mended():
            runs.write_new(run / "config.yaml", cli.parser.dump(cli.config, skip_none=False))
    with Watch(trainer, signals, lambda: cli.interruption.longest, runs.starter()) as watch:
        try:
            if cli.model is not None:
                with nullcontext() if resume is None else of_a_state(resume, lambda: cli.last.begun):
                    _fit(cli, signals, watch)
            elif runs.is_first():
                _fit_in_one_pass(cli)
        except Stopped as stopped:
            if (run / "last.ckpt").exists():
                stopped.remedy = f"{run / 'last.ckpt'} is saved; to go on: {cli.again}"
            raise
        if not (trainer.is_global_zero and runs.is_first()):
            return 0
        try:
            metrics = evaluate(run / "best.ckpt")
            print(report(metrics))
            log_result(trainer, cli.config_dump, metrics)
        except Stopped as stopped:
            stopped.remedy = f"Training is done; to score it: evaluate.py --ckpt {run / 'best.ckpt'}"
            raise
    return 0


def _fit(cli: TrainCLI, signals: Signals, watch: Watch) -> None:
    """Train, and have a ``best.ckpt`` at the end."""
    trainer, best = cli.trainer, cli.run / "best.ckpt"
    try:
        trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
        signals.check()
        # as the first process sees it, for all of them write a checkpoint together
        if not trainer.strategy.broadcast(best.exists()):
            if not cli.law.is_finite():
                raise NonFiniteLossError("The weights are not finite at the end of the run, which was never validated.")
            rank_zero_warn("This run was never validated: best.ckpt holds the weights of its end.")
            trainer.save_checkpoint(best)
        watch.part()
    except RuntimeError as error:
        gone = watch.lost(error)
        if gone is None:
            raise
        number = watch.status()
        if number is not None:
            raise Stopped(number) from error
        raise ProcessLost(f"{gone}, and this one with it; {cli.run / 'last.ckpt'} goes on.") from error
    finally:
        if cli.last.begun and trainer.global_step:
            runs.keep()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _fit_in_one_pass(cli: TrainCLI) -> None:
    """Without the trainer's loop, but on its device."""
    data = cli.datamodule
    require_one_split(cli.law, data)
    law, seed = cli.law.to(cli.trainer.strategy.root_device), cli.config.seed_everything
    weights = data.weights_to_fit()
    spent = fit_in_one_pass(law, data.train.points, data.val.points, weights, seed)
    validation = None
    if law.needs_points:
        with visible():
            value = -law.likelihoods(data.val.points, data.val.context).value.double().cpu()
        count = torch.ones_like(value) if weights is None else data.part_weights("val")
        validation = {"nll": float(count @ value / count.sum())}
    record = {"seed": seed, "training": spent, "validation": validation}
    record |= data.record()
    if not law.is_finite():
        raise NonFiniteLossError("The fitted parameters are not finite.")
    for name in ("best", "last"):
        write_checkpoint(law, cli.run / f"{name}.ckpt", **record)


def _to_go_on(command: str, given: list[str]) -> str:
    """The command that continues a run."""
    line = shlex.join([command, *given])
    return line if re.search(r"--ckpt_path[= ]last\b", line) else f"{line} --ckpt_path=last"


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
