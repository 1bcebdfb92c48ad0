"""The one LightningModule: base + head -> exact loss, optimiser, adapter-only checkpoints."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import lightning as L
import numpy as np
import torch
from lightning.pytorch.cli import instantiate_class
from torchmetrics import MeanMetric

from tuner.attention import attend_by_row
from tuner.backbone import Quantize, checkpoint_activations, load_base, load_tokenizer
from tuner.checkpoint import refuse_misfit
from tuner.data.batching import Batch
from tuner.data.datamodule import ConversationData
from tuner.data.encode import encode_header
from tuner.devices import blocks, check_placement, is_sharded, shard, whole_base
from tuner.errors import UserError
from tuner.fused import fuse
from tuner.generate import generate, stop_ids
from tuner.heads import Head
from tuner.heads.lora import LoRA
from tuner.loss import summed_loss
from tuner.process import stop_if_asked
from tuner.schedule import make_scheduler, total_steps
from tuner.weights import weights_hash

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

BASE_DTYPES = {
    "64-true": torch.float64,
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


class StepOutput(TypedDict):
    """What a training step gives to callbacks: the loss to differentiate and its two parts."""

    loss: Tensor
    loss_sum: Tensor
    targets: Tensor


class ChatTuner(L.LightningModule):
    """A causal language model with a head that is trained.

    The loss of an optimiser step is the summed cross-entropy over its tokens with loss, divided
    by their number, whatever the accumulation and the number of devices. Batches carry that
    number (see `tuner.data.batching`); this module undoes the two averages that Lightning and DDP
    take over batches and devices.

    Args:
        base: hub id, folder or `pico` (the embedded model).
        head: what is trained, and how.
        revision: branch, tag or commit of a hub id.
        quantize: `nf4` or `int8` weights for the frozen base.
        init_adapter: folder of an exported adapter to start from (a new run, not a resume).
        gradient_checkpointing: compute activations twice instead of keeping them.
        from_scratch: random weights of the base's architecture instead of the trained ones.
        compile: let torch.compile fuse each transformer block; the first steps take minutes.
        optimizer: class_path and init_args; the `optimizer` group of the command line.
        lr_scheduler: likewise; stepped once an optimiser step.
    """

    def __init__(
        self,
        base: str = "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        head: Head | None = None,
        revision: str | None = None,
        quantize: Quantize | None = None,
        init_adapter: str | None = None,
        gradient_checkpointing: bool = False,
        from_scratch: bool = False,
        compile: bool = False,
        optimizer: dict[str, Any] | None = None,
        lr_scheduler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.base = base
        self.head = head or LoRA()
        self.revision = revision
        self.quantize: Quantize | None = quantize
        self.init_adapter = init_adapter
        self.gradient_checkpointing = gradient_checkpointing
        self.from_scratch = from_scratch
        self.compile_blocks = compile
        self.optimizer = optimizer or {"class_path": "torch.optim.AdamW", "init_args": {}}
        self.lr_scheduler = lr_scheduler
        self.strict_loading = False  # checkpoints hold the trained weights only
        self.model: Any = None
        self.eval_loss = MeanMetric(nan_strategy=float("nan"))  # by default it leaves NaN out

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer, loaded on first use."""
        return load_tokenizer(self.base, self.revision)

    @cached_property
    def weights_sha256(self) -> str | None:
        """Hash of the base's weight files; null where they are not used or not at hand."""
        return None if self.from_scratch else weights_hash(self.base, self.revision)

    def setup(self, stage: str) -> None:
        """Make sure that all devices have come, each with a base of its own."""
        check_placement(self.trainer, self)

    def configure_model(self) -> None:
        """Load the base and put the head on it, once; split it where there is a mesh of devices.

        Frozen weights are stored in the type of the arithmetic, trained ones in float32.

        Raises:
            UserError: the base does not load, or the head does not fit it.
        """
        if self.model is None:
            self._load()
        if self.device_mesh is not None and not is_sharded(self.model):
            shard(self.model, self.device_mesh["data_parallel"])

    def _load(self) -> None:
        base = load_base(
            self.base,
            self.revision,
            quantize=self.quantize,
            dtype=BASE_DTYPES[str(self.trainer.precision)],
            from_scratch=self.from_scratch,
            device=self.trainer.strategy.root_device,
        )
        if self.gradient_checkpointing:
            checkpoint_activations(base)
        self.model = self.head.apply(base, Path(self.init_adapter) if self.init_adapter else None)
        if self.compile_blocks:  # for rows end to end, each batch would be compiled anew
            for block in blocks(whole_base(self.model)):
                block.compile(dynamic=True)  # rows of every length, compiled once
        else:
            attend_by_row(self.model)
            fuse(self.model)
        # Lightning keeps the mode it finds, and a loaded base is in evaluation mode: without this
        # there would be no dropout.
        self.model.train()

    def trainable(self) -> dict[str, Tensor]:
        """The trained parameters by their name in this module."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def on_train_start(self) -> None:
        """Remember the run's seed; tell the head how long the training is."""
        self._seed = torch.initial_seed()
        trainer = self.trainer
        epoch = self._data().steps_per_epoch()
        self.head.start(self.model, total_steps(epoch, trainer.max_epochs, trainer.max_steps))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let dropout depend on the place in the run alone, so that a resume draws the same."""
        place = (self._seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """One micro-batch's share of the optimiser step's loss."""
        total, targets = summed_loss(self.model, batch)
        averaged = self.trainer.accumulate_grad_batches * self.trainer.world_size
        whole = total
        if (penalty := self.head.penalty(self.model)) is not None:
            whole = total + penalty * targets  # adds up to the penalty over the step's batches
        loss = whole * (averaged / max(batch["step_targets"], 1))
        return {"loss": loss, "loss_sum": total.detach(), "targets": targets}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Let the head look at weights and gradients after each optimiser step."""
        step = self.trainer.global_step
        super().optimizer_step(*args, **kwargs)
        if any(p.grad is not None for p in self.parameters()):  # else it was skipped
            self.head.stepped(self.model, step)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the token-weighted loss."""
        total, targets = summed_loss(self.model, batch)
        self.eval_loss.update(total / targets.clamp(min=1), weight=targets)

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss` (nats a token) and `val_perplexity`; tell schedules that watch them."""
        self._log_eval("val")
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            for schedule in self.trainer.lr_scheduler_configs:
                if schedule.reduce_on_plateau:
                    seen: Any = self.trainer.callback_metrics[str(schedule.monitor)]
                    schedule.scheduler.step(seen)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a schedule, but for one that watches a metric: each validation has stepped it.

        At the end of the epoch, where Lightning would do it, a resumed run may not know the metric.
        """
        if metric is None:
            super().lr_scheduler_step(scheduler, metric)

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Log `test_loss` (nats a token) and `test_perplexity`."""
        self._log_eval("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Greedy replies to the prompts of a batch of test rows.

        A device that has run out of rows answers the first one once more: a model that is split
        needs all devices to compute equally often.
        """
        data = self._data()
        assert data.curated is not None
        examples = [data.curated.splits["test"][row] for row in batch["rows"] or [0]]
        replies = generate(
            self.model,
            [encode_header(example.prompt, data.prompt, self.tokenizer) for example in examples],
            tokenizer=self.tokenizer,
            stops=stop_ids(data.prompt, self.tokenizer),
            max_new_tokens=data.max_length,
            batch_size=len(examples),
            each_token=lambda _: stop_if_asked(self.trainer),
        )
        return [
            {"id": example.id, "prompt": example.prompt[-1].content, "reply": reply.text}
            for example, reply in zip(examples, replies, strict=True)
        ]

    def _log_eval(self, split: str) -> None:
        loss = self.eval_loss.compute()  # sums over devices first
        self.eval_loss.reset()
        self.log_dict({f"{split}_loss": loss, f"{split}_perplexity": loss.exp()}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Optimiser over the trained parameters; the schedule is stepped per optimiser step."""
        return self.optimizer_over(list(self.trainable().values()))

    def optimizer_over(self, parameters: list[Tensor]) -> Any:
        """What `configure_optimizers` gives to Lightning, for any parameters."""
        optimizer = instantiate_class(parameters, self.optimizer)
        if self.lr_scheduler is None:
            return optimizer
        trainer = self.trainer
        epoch = self._data().steps_per_epoch()
        scheduler = make_scheduler(
            optimizer,
            self.lr_scheduler,
            lambda: total_steps(epoch, trainer.max_epochs, trainer.max_steps),
        )
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _data(self) -> ConversationData:
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, ConversationData)
        return data

    def settings(self) -> dict[str, Any]:
        """What decides whether a head can work; see `Head.impossible`."""
        names = ("quantize", "gradient_checkpointing", "init_adapter", "from_scratch")
        return {name: getattr(self, name) for name in names} | {"sharded": False}

    def identity(self) -> dict[str, Any]:
        """What a checkpoint belongs to: it fits no other base and no other head."""
        return {
            "base": self.base,
            "revision": self.revision,
            "quantize": self.quantize,
            "head": type(self.head).__name__,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights only, and say what they belong to.

        Raises:
            UserError: a weight is not finite.
        """
        state = {name: checkpoint["state_dict"][name] for name in self.trainable()}
        if bad := [name for name, weight in state.items() if not weight.isfinite().all()]:
            raise UserError(
                f"optimizer.lr: the weights are not finite after step {self.trainer.global_step} "
                f"({bad[0]}), and are not saved. What was saved before is whole; lower the rate"
            )
        checkpoint["state_dict"] = state
        checkpoint["tuner"] = self.identity() | {"weights_sha256": self.weights_sha256}
        checkpoint["head"] = self.head.state(self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another base or head, or one that lacks a weight.

        Raises:
            UserError: it does not fit.
        """
        own = self.identity() | {"weights_sha256": self.weights_sha256}
        refuse_misfit(checkpoint, own, self.trainable())
        self.head.load_state(self.model, checkpoint["head"])
