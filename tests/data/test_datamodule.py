"""The data module: prepared once, and Lightning runs exactly the batches that were planned."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from tuner.data.batching import Batch
from tuner.data.datamodule import ConversationData
from tuner.data.sources.conversations import Conversations
from tuner.errors import UserError

Write = Callable[..., str]
ROWS = [{"prompt": f"question {n}", "completion": "answer " * (1 + n % 7)} for n in range(60)]


@pytest.fixture
def make(write: Write) -> Callable[..., ConversationData]:
    path = write("a.jsonl", ROWS)

    def build(**settings: Any) -> ConversationData:
        return ConversationData(Conversations(path), **settings)

    return build


Make = Callable[..., ConversationData]


def attach(data: ConversationData, tokenizer: Any, **trainer: Any) -> None:
    data.prepare(tokenizer)
    progress = SimpleNamespace(current=SimpleNamespace(processed=trainer.pop("done", 0)))
    epochs = SimpleNamespace(current=SimpleNamespace(ready=1, processed=trainer.pop("counted", 1)))
    loop = SimpleNamespace(
        epoch_loop=SimpleNamespace(batch_progress=progress), epoch_progress=epochs
    )
    defaults = {
        "accumulate_grad_batches": 1,
        "world_size": 1,
        "global_rank": 0,
        "limit_train_batches": 1.0,
        "overfit_batches": 0.0,
        "current_epoch": 0,
        "fit_loop": loop,
    }
    data.trainer = SimpleNamespace(**(defaults | trainer))  # pyright: ignore


def test_prepare_reads_once(make: Make, pico: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make()
    first = data.prepare(pico)
    card = data.card
    monkeypatch.setattr(data.source, "rows", lambda: pytest.fail("read a second time"))
    assert data.prepare(pico) is first
    data.setup("fit")
    assert data.card is card


def test_a_failed_preparation_is_tried_again(write: Write, pico: Any) -> None:
    path = write("a.jsonl", "")
    data = ConversationData(Conversations(path))
    with pytest.raises(UserError, match="no rows"):
        data.prepare(pico)
    write("a.jsonl", ROWS)
    assert data.prepare(pico).seen == len(ROWS)


def test_a_base_without_template_is_refused_before_the_data_is_read(make: Make, pico: Any) -> None:
    pico.chat_template = None
    data = make()
    data.source.path = "no/such/file.jsonl"
    with pytest.raises(UserError, match="no chat template"):
        data.prepare(pico)


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_give_every_row_of_their_split_once(make: Make, pico: Any, workers: int) -> None:
    data = make(val_size=11, test_size=13, batch_size=4, num_workers=workers)
    attach(data, pico)
    loaders = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
        "predict": data.predict_dataloader(),
    }
    sizes = {"train": 36, "val": 11, "test": 13, "predict": 13}
    for name, loader in loaders.items():
        batches: list[Batch] = list(loader)  # pyright: ignore
        assert sorted(r for b in batches for r in b["rows"]) == list(range(sizes[name]))
        assert all(len(b["lengths"]) <= 4 for b in batches)


def test_splits_can_be_switched_off(make: Make, pico: Any) -> None:
    data = make(val_size=0, test_size=0)
    attach(data, pico)
    assert data.val_dataloader() == []
    assert len(data._rows("train")) == len(ROWS)
    for loader in (data.test_dataloader, data.predict_dataloader):
        with pytest.raises(UserError, match=r"data\.test_size: 0 leaves no test rows"):
            loader()


def test_training_goes_on_behind_the_last_batch_of_a_checkpoint(make: Make, pico: Any) -> None:
    def batches(epoch: int = 2, **trainer: Any) -> list[list[int]]:
        data = make(batch_size=4)
        attach(data, pico, current_epoch=epoch, **trainer)
        return [batch["rows"] for batch in data.train_dataloader()]

    whole = batches()
    assert batches(done=5) == whole[5:]
    assert batches(done=len(whole)) == whole  # that epoch was over
    assert batches(done=len(whole), counted=0) == batches(epoch=3)  # over, but not counted yet
    assert batches(done=3, limit_train_batches=4) == whole[3:4]
    assert batches(done=4, limit_train_batches=4) == whole[:4]


def test_a_tokenizer_without_pad_token_will_do(make: Make, pico: Any) -> None:
    pico.pad_token = None
    data = make(batch_size=16)
    attach(data, pico)
    assert len(list(data.train_dataloader())) > 0


@pytest.mark.parametrize(
    "settings", [{"max_length": 0}, {"batch_size": 0}, {"batch_size": -3}, {"num_workers": -1}]
)
def test_settings_out_of_range(make: Make, settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match=rf"data\.{next(iter(settings))}: .* is not allowed"):
        make(**settings)


def test_overfit_batches_is_refused_with_the_way_out(make: Make, pico: Any) -> None:
    data = make()
    attach(data, pico, overfit_batches=2)
    with pytest.raises(UserError, match=r"overfit_batches.*data\.source\.limit"):
        data.train_dataloader()


class Watcher(L.LightningModule):
    """Learns nothing and remembers the batches that Lightning ran."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps: list[list[tuple[int, int]]] = [[]]  # of each: targets told, targets there
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        rows = batch["labels"].split(batch["lengths"])
        there = sum(int((row[1:] >= 0).sum()) for row in rows)
        self.steps[-1].append((batch["step_targets"], there))
        self.epochs[-1] += batch["rows"]
        return self.weight.sum() * 0

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.steps.append([])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(
    ("limit", "batches"), [(1.0, 12), (0.5, 6), (0.9, 10), (7, 7)], ids=lambda n: str(n)
)
def test_lightning_runs_the_plan(
    make: Make, pico: Any, tmp_path: Any, limit: float, batches: int
) -> None:
    """The steps that Lightning takes are those whose tokens were counted, limits and all."""
    data = make(val_size=0, test_size=0, batch_size=5)
    watcher = Watcher(pico)
    trainer = L.Trainer(
        max_epochs=2,
        accumulate_grad_batches=4,
        limit_train_batches=limit,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(watcher, datamodule=data)
    steps = [step for step in watcher.steps if step]
    assert [len(step) for step in steps] == (
        [4] * (batches // 4) + [batches % 4] * (batches % 4 > 0)
    ) * 2
    for step in steps:
        assert {told for told, _ in step} == {sum(there for _, there in step)}
    first, second = watcher.epochs
    assert len(set(first)) == len(first) == min(60, batches * 5)
    assert first != second
