"""The command line of `train.py`: LightningCLI with our defaults, run folders and clear errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers fork after the first use

from jsonargparse import Namespace
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import (
    LightningArgumentParser,
    LightningCLI,
    LRSchedulerTypeTuple,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_info
from torch.optim import Optimizer

from tuner import devices
from tuner.callbacks.bars import LastBar
from tuner.callbacks.blame import blamed
from tuner.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from tuner.callbacks.config import SaveFitConfig
from tuner.callbacks.first_batch import FirstBatch
from tuner.callbacks.guard import Guard
from tuner.callbacks.loss import LossTracker
from tuner.callbacks.predictions import PredictionFile
from tuner.callbacks.record import RunRecord
from tuner.callbacks.samples import SampleReplies
from tuner.callbacks.stop import StopTogether
from tuner.callbacks.throughput import Throughput
from tuner.checkpoint import AtomicCheckpointIO
from tuner.checks import refuse_finished, refuse_impossible, refuse_pairs
from tuner.data.datamodule import ConversationData
from tuner.errors import UserError
from tuner.finish import finish
from tuner.lost import RESUME
from tuner.memory import explained, told_while_loading
from tuner.messages import explain
from tuner.module import ChatTuner
from tuner.parser import Parser
from tuner.private import refuse_secrets
from tuner.process import follow_parent, run
from tuner.runs import claim_for_all, find_checkpoint, inside

ROOT = Path(__file__).parent.parent
DEFAULTS = ROOT / "configs" / "defaults.yaml"
# What Lightning and Python raise about a trainer's settings.
REFUSED = (
    ValueError,
    TypeError,
    RuntimeError,
    ImportError,
    OverflowError,
    MisconfigurationException,
)


class TunerCLI(LightningCLI):
    """LightningCLI around the one module and the one data module."""

    model: ChatTuner
    datamodule: ConversationData

    def __init__(self, args: Sequence[str] | None = None) -> None:
        given = sys.argv[1:] if args is None else list(args)
        self._chosen = given[0] if given and given[0] in self.subcommands() else None
        subcommands = {
            name: {"default_config_files": [str(DEFAULTS)]} for name in self.subcommands()
        }
        self.loss = LossTracker()
        self.throughput = Throughput()
        self.record = RunRecord(self.throughput)
        self.predictions = PredictionFile()
        self.first_batch = FirstBatch()
        self.best = BestCheckpoint()
        super().__init__(
            ChatTuner,
            ConversationData,
            save_config_callback=SaveFitConfig,
            parser_class=Parser,
            parser_kwargs=subcommands,
            seed_everything_default=42,
            trainer_defaults={
                "callbacks": [
                    self.loss,
                    self.throughput,
                    self.record,
                    self.best,
                    self.predictions,
                    self.first_batch,
                    LearningRateMonitor("step"),
                    LastBar(),
                    StopTogether(),
                ],
                "use_distributed_sampler": False,  # the data module shares rows out itself
            },
            load_from_checkpoint_support=False,  # an exported adapter needs no hyperparameters
            args=list(args) if args is not None else None,
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        # To gather the options of a subcommand takes a while: those of the others are left out.
        if self._chosen in (None, subcommand):
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        return self.init_parser(description=kwargs["description"])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the groups beside model, data and trainer."""
        parser.add_argument(
            "--name", type=str | None, default=None, help="name of the run's folder"
        )
        parser.add_optimizer_args((Optimizer,), link_to="model.optimizer")
        parser.add_lr_scheduler_args(LRSchedulerTypeTuple, link_to="model.lr_scheduler")
        parser.add_lightning_class_args(SampleReplies, "samples")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(Guard, "guard")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the options, none of which may be a secret: the run's folder holds them all.

        Raises:
            UserError: an option does not fit, or is a secret.
        """
        super().parse_arguments(parser, args)
        refuse_secrets(self.config[str(self.config.subcommand)].items())

    @staticmethod
    def link_optimizers_and_lr_schedulers(parser: LightningArgumentParser) -> None:
        """Hand both groups to the module, which makes them once its weights are there."""
        for key in ("optimizer", "lr_scheduler"):
            parser.link_arguments(key, f"model.{key}", compute_fn=_as_dict)

    def before_instantiate_classes(self) -> None:
        """Settle the run's name, so that the saved configuration holds it."""
        config = self.config[str(self.subcommand)]
        if config.name is None:
            recipes = [Path(str(path)).stem for path in config.config or []]
            config.name = recipes[0] if recipes else "run"
        root = config.trainer.default_root_dir or "."
        if "://" in str(root):
            raise UserError(
                f"trainer.default_root_dir: {root} is an address; give a folder of this machine"
            )
        if config.ckpt_path == "":
            raise UserError("ckpt_path: is empty. Give last, best or a file, or leave it out")
        if config.ckpt_path in ("last", "best"):
            config.ckpt_path = str(find_checkpoint(config.ckpt_path, Path(root), config.name))

    def _parse_ckpt_path(self) -> None:
        # Lightning would read hyperparameters from the checkpoint here; ours hold none, and a
        # spoilt file is answered when it is loaded.
        return

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"seed_everything: {error}") from error

    def instantiate_classes(self) -> None:
        """Let through what a class says about its own settings.

        Raises:
            UserError: a setting does not fit.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise UserError(explain(str(error), self.parser)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add checkpoints that a crash cannot spoil.

        Raises:
            UserError: Lightning cannot make a trainer of the settings.
        """
        config = self._get(self.config_init, "trainer")
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        kwargs |= devices.strategy_settings(config.strategy, config.precision)
        devices.look_after_processes()
        try:
            kwargs["plugins"] = [*plugins, AtomicCheckpointIO(), *devices.plugins()]
            return super().instantiate_trainer(**kwargs)
        except REFUSED as error:
            raise UserError(f"trainer: {str(error).strip()}") from error

    def before_fit(self) -> None:
        """Fail early: data, model and optimiser are ready before the run gets its folder."""
        self._prepare()
        config = self.config["fit"]
        refuse_impossible(self.trainer, self.model, self.datamodule)
        if config.ckpt_path:
            refuse_finished(self.trainer, self.model, self.datamodule, config.ckpt_path)
        root = Path(config.trainer.default_root_dir or ".")
        claimed, self.lock = claim_for_all(root, config.name)
        folder = devices.agreed(self.trainer, self.model, claimed)
        own: list[Logger] = [
            TensorBoardLogger(root, name=config.name, version=folder.name),
            CSVLogger(root, name=config.name, version=folder.name),
        ]
        chosen = config.trainer.logger not in (None, True, False)  # one or more, with settings
        self.trainer.loggers = own + (self.trainer.loggers if chosen else [])
        self.best.dirpath = str(folder / "checkpoints")
        last, samples = self.config_init["fit"].checkpoint, self.config_init["fit"].samples
        last.folder, last.hold = folder / "checkpoints", self.lock
        for callback in (last, self.best, self.record):
            callback.guard = self.config_init["fit"].guard
        for callback in (self.loss, self.record, self.first_batch, samples):
            callback.folder = folder

    def _prepare(self) -> None:
        refuse_pairs(self.trainer, self.model, self.datamodule)
        for config in (self.config, self.config_init):  # `last` may mean another file elsewhere
            held = config[str(self.subcommand)]
            held.ckpt_path = devices.agreed(self.trainer, self.model, held.ckpt_path)
        self.datamodule.prepare(self.model.tokenizer)
        self.model.trainer = self.datamodule.trainer = self.trainer
        cast("Any", self.trainer).datamodule = self.datamodule
        with told_while_loading():
            self.model.configure_model()

    def fit(self, model: ChatTuner, **kwargs: Any) -> None:
        """Train, and say what to change where the user can mend what went wrong.

        Raises:
            UserError: memory ran out, or a setting of the trainer or a callback cannot work.
        """
        with blamed(self.lock), explained(self.trainer, model, self.datamodule):
            self.trainer.fit(model, **kwargs)

    def before_validate(self) -> None:
        """Prepare without a run folder."""
        self._prepare()
        self.trainer.loggers = []

    before_test = before_validate

    def before_predict(self) -> None:
        """Replies go into the run whose checkpoint gives them, or beside the runs of the name."""
        config = self.config["predict"]
        folder = inside(Path(config.trainer.default_root_dir or "."), config.name)
        self.before_validate()
        if config.ckpt_path:
            written_by = Path(str(config.ckpt_path)).resolve().parent.parent
            folder = written_by if (written_by / "run.json").is_file() else folder
        folder.mkdir(parents=True, exist_ok=True)
        self.predictions.folder = folder

    def predict(self, model: ChatTuner, **kwargs: Any) -> None:
        """Answer the test prompts."""
        kwargs["return_predictions"] = False  # they are in the file
        self.trainer.predict(model, **kwargs)
        rank_zero_info(f"Replies: {self.predictions.folder}")

    def after_fit(self) -> None:
        """Validate where training stopped, then export the best weights."""
        finish(
            self.trainer,
            self.model,
            self.datamodule,
            loss=self.loss,
            record=self.record,
            hold=self.lock,
        )


def _as_dict(group: Namespace | None) -> dict[str, Any] | None:
    return None if group is None else group.as_dict()


def main(args: Sequence[str] | None = None) -> int:
    """Run `fit`, `validate`, `test` or `predict`.

    Args:
        args: command line; that of the process when null.

    Returns:
        The exit code: 0 done, 2 the user can mend it, 130 stopped by Ctrl+C, 143 by SIGTERM.
    """
    follow_parent()
    given = sys.argv[1:] if args is None else args
    return run(lambda: TunerCLI(args) and None, RESUME if "fit" in given[:1] else "")
