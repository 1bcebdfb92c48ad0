"""The end of a training: where it stopped is validated, and the best weights are exported."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info

from tuner.checkpoint import place
from tuner.errors import UserError
from tuner.export import export

if TYPE_CHECKING:
    from lightning import Trainer

    from tuner.callbacks.loss import LossTracker
    from tuner.callbacks.record import RunRecord
    from tuner.data.datamodule import ConversationData
    from tuner.hold import Hold
    from tuner.module import ChatTuner


def finish(
    trainer: Trainer,
    model: ChatTuner,
    data: ConversationData,
    *,
    loss: LossTracker,
    record: RunRecord,
    hold: Hold | None,
) -> None:
    """Validate once more unless that was the last thing done, and export, in all processes.

    Args:
        trainer: after its training.
        model: what was trained.
        data: what it was trained on.
        loss: knows when the last validation was.
        record: knows the run's folder and its best validation, and is closed here.
        hold: on the run's folder, in the first process; null in the others. It ends here.

    Raises:
        UserError: the folder is gone or another's, or no checkpoint has finite losses.
    """
    folder = record.folder
    assert folder is not None
    assert data.curated is not None
    last, best = (folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    if hold is not None:
        hold.check()
    validated = bool(loss.val) and loss.val[-1][0] == trainer.global_step
    if data.curated.splits["val"] and not validated:
        trainer.validate(model, datamodule=data, verbose=False, weights_only=True)
        is_best = record.best.get("step") == trainer.global_step
        if hold is not None and is_best and last.is_file():
            place(last, best)
    loss.draw(trainer)
    if hold is not None:
        kept = best if best.is_file() else last
        found = float(trainer.callback_metrics.get("val_loss", 0.0))
        if not kept.is_file() or (kept is last and not isfinite(found)):
            record.finish(trainer, status="failed")
            raise UserError(
                f"{folder}: no step left weights with a finite val_loss, so nothing is exported. "
                "Lower optimizer.lr or use another trainer.precision"
            )
        export(model, data.prompt, folder, kept)
        record.finish(trainer, status="finished", exported=kept.stem)
        hold.close()
    rank_zero_info(f"Run folder: {folder}")
