"""A few replies generated during training, to read and to score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from tuner.data.datamodule import ConversationData
from tuner.data.encode import encode_header
from tuner.devices import gathered
from tuner.errors import UserError
from tuner.generate import Reply, generate, stop_ids
from tuner.markdown import blocks
from tuner.module import ChatTuner
from tuner.process import stop_if_asked

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

    from tuner.data.example import Example


class SampleReplies(Callback):
    """Answers a fixed handful of validation prompts after each validation.

    Logs corpus `sample_bleu` (torchmetrics SacreBLEU) and `sample_rouge1`, `2`, `L` (F1, 0 to 1),
    writes the texts to `samples.jsonl` and TensorBoard. A few rows are for looking: `eval.py` is
    what compares models.

    Args:
        count: prompts; 0 turns it off.
        max_new_tokens: tokens a reply at most.
    """

    def __init__(self, count: int = 4, max_new_tokens: int = 64) -> None:
        if count < 0 or max_new_tokens < 1:
            raise UserError("samples: count must be 0 or more, max_new_tokens 1 or more")
        self.count = count
        self.max_new_tokens = max_new_tokens
        self.folder: Path | None = None  # set once the run has its folder

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate after a validation; here, metrics can still be logged."""
        if not trainer.sanity_checking and self.folder is not None:
            self._generate(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate at the end of a run that has no validation."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if not data.curated.splits["val"]:
            self._generate(trainer, pl_module, log=False)

    def _generate(self, trainer: Trainer, module: LightningModule, *, log: bool = True) -> None:
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, ConversationData)
        assert isinstance(module, ChatTuner)
        assert data.curated is not None
        examples = (data.curated.splits["val"] or data.curated.splits["train"])[: self.count]
        if not examples:
            return
        # Every device answers its share, one that has none the first prompt once more: a model that
        # is split over them needs all of them to compute equally often.
        share = examples[trainer.global_rank :: trainer.world_size] or examples[:1]
        training = module.model.training
        module.model.eval()
        with trainer.precision_plugin.forward_context():
            replies = generate(
                module.model,
                [encode_header(e.prompt, data.prompt, module.tokenizer) for e in share],
                tokenizer=module.tokenizer,
                stops=stop_ids(data.prompt, module.tokenizer),
                max_new_tokens=self.max_new_tokens,
                batch_size=len(share),
                each_token=lambda _: stop_if_asked(trainer),
            )
        module.model.train(training)
        pairs = [(e.id, reply) for e, reply in zip(share, replies, strict=True)]
        answered: dict[str, Reply] = dict(gathered(pairs))
        replies = [answered[example.id] for example in examples]
        if log:
            scores = _scores([r.text for r in replies], [e.reply for e in examples])
            module.log_dict(scores)
        if trainer.is_global_zero:
            self._write(trainer, examples, replies)

    def _write(self, trainer: Trainer, examples: list[Example], replies: list[Reply]) -> None:
        rows = [
            {
                "step": trainer.global_step,
                "id": example.id,
                "prompt": example.prompt[-1].content,
                "reference": example.reply,
                "reply": reply.text,
                "stop_reason": reply.stop_reason,
            }
            for example, reply in zip(examples, replies, strict=True)
        ]
        if self.folder is not None:
            with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for row in rows:
                    text = blocks({key: str(row[key]) for key in ("prompt", "reply", "reference")})
                    logger.experiment.add_text(f"sample/{row['id']}", text, trainer.global_step)


def _scores(replies: list[str], references: list[str]) -> dict[str, float]:
    from torchmetrics.text import ROUGEScore, SacreBLEUScore

    # Without rougeLsum: that one would fetch a sentence splitter from the network.
    rouge = ROUGEScore(rouge_keys=("rouge1", "rouge2", "rougeL"))
    bleu = SacreBLEUScore()
    found = rouge(replies, references)
    scores = {f"sample_{k}": float(found[f"{k}_fmeasure"]) for k in ("rouge1", "rouge2", "rougeL")}
    return scores | {"sample_bleu": float(bleu(replies, [[r] for r in references]))}
