"""What every head promises; runs on each head that is found."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tuner.backbone import load_base, load_tokenizer
from tuner.cli import main
from tuner.data.datamodule import ConversationData
from tuner.data.encode import encode_header
from tuner.data.example import Message
from tuner.data.prompts.chat import Chat
from tuner.data.sources.conversations import Conversations
from tuner.generate import generate, stop_ids
from tuner.heads import Head
from tuner.heads.lora import LoRA
from tuner.module import ChatTuner
from tuner.plugins import subclasses
from tuner.weights import PICO

HEADS = list(subclasses(Head))
FAST = ["--data.val_size=0", "--data.test_size=0", "--data.batch_size=8"]


def exported(run: Path, base: Path) -> Any:
    """The trained model as other tools load it."""
    if (run / "model").is_dir():
        return AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(run / "adapter")).eval()


def token_loss(model: Any, base: Path, rows: Path) -> float:
    """Nats a supervised token over all rows, one row at a time."""
    data = ConversationData(Conversations(str(rows)), val_size=0, test_size=0)
    total, tokens = 0.0, 0
    for row in data.prepare(load_tokenizer(str(base))).encoded["train"]:
        ids = torch.tensor(row.input_ids, dtype=torch.int64)[None]
        labels = torch.tensor(row.labels, dtype=torch.int64)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -ids.shape[1] : -1]  # behind virtual tokens
        total += float(functional.cross_entropy(logits, labels[1:], reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    return total / tokens


# What some heads need to learn rows by heart: steps, learning rate, settings.
NEEDS: dict[str, tuple[int, float, dict[str, Any]]] = {
    "PromptTuning": (250, 0.05, {"num_virtual_tokens": 80}),
    "PTuning": (800, 0.002, {"num_virtual_tokens": 80, "encoder_hidden_size": 256}),
    "PrefixTuning": (150, 0.1, {}),
    "IA3": (100, 0.1, {}),
    "VeRA": (60, 0.05, {}),
    "LNTuning": (60, 0.1, {}),
    "AdaLoRA": (60, 0.02, {}),
    "Full": (60, 0.002, {}),
}
ALSO: dict[str, list[dict[str, Any]]] = {
    "LoRA": [
        {"init": "pissa"},
        {"init": "olora"},
        {"init": "orthogonal"},
        {"dora": True},
        {"rslora": True, "layers_to_transform": [0]},
    ],
    "PromptTuning": [{"init": "vocabulary"}, {"init": "random"}],
}
VARIANTS = [(head, settings) for head in HEADS for settings in ({}, *ALSO.get(head, []))]
NAMES = ["-".join([head, *map(str, settings.values())]) for head, settings in VARIANTS]
BASES = ("float32", "bfloat16", "nf4", "int8")


def made(head: str, base: Path, kind: str, **settings: Any) -> tuple[Head, Any]:
    """A head on a base of a kind: the head and the model."""
    quantize: Any = kind if kind in ("nf4", "int8") else None
    dtype = torch.float32 if quantize else getattr(torch, kind)
    loaded = load_base(str(base), dtype=dtype, quantize=quantize)
    one = subclasses(Head)[head](**settings)
    return one, one.apply(loaded)


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize(("head", "settings"), VARIANTS, ids=NAMES)
def test_trains_what_it_should_in_float32(
    head: str, settings: dict[str, Any], kind: str, tiny_base: Path
) -> None:
    names = ("gradient_checkpointing", "init_adapter", "from_scratch", "sharded")
    blank = dict.fromkeys(names, False)
    quantize = kind if kind in ("nf4", "int8") else None
    if subclasses(Head)[head](**settings).impossible({**blank, "quantize": quantize}):
        return  # it says so before anything is loaded: the tests of refusals
    frozen = {name: p.detach().clone() for name, p in load_base(str(tiny_base)).named_parameters()}
    one, model = made(head, tiny_base, kind, **settings)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert {p.dtype for p in trained.values()} == {torch.float32}
    if one.keeps_base:
        assert sum(p.numel() for p in trained.values()) < sum(p.numel() for p in frozen.values())
    one.start(model, 4)
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    ids = torch.arange(3, 23)[None]
    model.train()
    for step in range(4):  # a start at zero on one side hides the other side's gradient at first
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind != "float32"):
            loss = model(input_ids=ids, labels=ids).loss
        loss = loss + (one.penalty(model) or 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step < 3:
            one.stepped(model, step)
    assert not [n for n, p in trained.items() if p.grad is None or not p.grad.any()]
    kept = dict(load_base(str(tiny_base)).named_parameters())
    assert all(torch.equal(p, frozen[name]) for name, p in kept.items())


def learn_by_heart(
    head: str, fit: Callable[..., Path], tmp_path: Path, *more: str
) -> tuple[Path, Path]:
    """Trains a head on 8 rows until it knows them: the run and the rows."""
    steps, rate, settings = NEEDS.get(head, (60, 0.01, {}))
    words = ["where", "order", "parcel", "help", "return", "refund", "thanks", "today"]
    rows = [{"prompt": f"{n} {w}?", "completion": f"{w} {n}."} for n, w in enumerate(words)]
    path = tmp_path / "short.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = fit(
        *(f"--model.base={PICO}", f"--model.head={head}", f"--optimizer.lr={rate}", *more),
        *(f"--model.head.{key}={value}" for key, value in settings.items()),
        *(f"--trainer.max_epochs={steps}", f"--data.source.path={path}", *FAST),
    )
    return run, path


ON: dict[str, tuple[str, ...]] = {
    "bfloat16": ("--trainer.precision=bf16-mixed",),
    "nf4": ("--model.quantize=nf4",),
    "int8": ("--model.quantize=int8",),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ON)
@pytest.mark.parametrize("head", HEADS)
def test_learns_rows_by_heart_on_every_kind_of_base(
    head: str, kind: str, fit: Callable[..., Path], tmp_path: Path
) -> None:
    blank = dict.fromkeys(("gradient_checkpointing", "init_adapter", "from_scratch"), False)
    quantize = kind if kind in ("nf4", "int8") else None
    if subclasses(Head)[head]().impossible({**blank, "sharded": False, "quantize": quantize}):
        return  # refused before anything is loaded
    run, _ = learn_by_heart(head, fit, tmp_path, *ON[kind])
    with (run / "metrics.csv").open() as file:
        losses = [float(r["train_loss"]) for r in csv.DictReader(file) if r["train_loss"]]
    assert min(losses[-5:]) < 0.1


QUICK = ("LoRA", "LNTuning", "Full")  # the others take up to a minute each


@pytest.mark.parametrize(
    "head", [h if h in QUICK else pytest.param(h, marks=pytest.mark.slow) for h in HEADS]
)
def test_learns_rows_by_heart_and_keeps_its_promises(
    head: str, fit: Callable[..., Path], tmp_path: Path
) -> None:
    """Overfits 8 rows; loads with plain peft; answers alike alone and in a batch; small files."""
    run, path = learn_by_heart(head, fit, tmp_path)
    model = exported(run, PICO)
    assert token_loss(model, PICO, path) < 0.1
    tokenizer = load_tokenizer(str(PICO))
    texts = ["0 where?", "3 help?", "7 today?", "where is my parcel, please? " * 3, "order", "x"]
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in texts]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": stop_ids(Chat(), tokenizer)}
    together = generate(model, headers, max_new_tokens=10, batch_size=6, **options)
    alone = generate(model, headers, max_new_tokens=10, batch_size=1, **options)
    assert [r.text for r in together] == [r.text for r in alone]
    assert [r.new_tokens for r in together] == [r.new_tokens for r in alone]
    assert [r.text for r in alone[:3]] == ["where 0.", "help 3.", "today 7."]
    checkpoint = run / "checkpoints" / "last.ckpt"
    held = torch.load(checkpoint, weights_only=True)
    needed = sum(t.numel() * 4 for t in held["state_dict"].values()) * 3  # weights, two moments
    assert checkpoint.stat().st_size < 1.2 * needed + 100_000


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_gives_what_its_rows_give_alone(head: str) -> None:
    _, model = made(head, PICO, "float32")
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    model.eval()
    tokenizer = load_tokenizer(str(PICO))
    texts = ["order", "where is my parcel please", "a b c d e f g h i j k", "refund? " * 9]
    headers = [encode_header([Message("user", text)], Chat(), tokenizer) for text in texts]
    options: dict[str, Any] = {"tokenizer": tokenizer, "stops": stop_ids(Chat(), tokenizer)}
    together = generate(model, headers, max_new_tokens=12, batch_size=4, **options)
    alone = generate(model, headers, max_new_tokens=12, batch_size=1, **options)
    assert [(r.text, r.new_tokens) for r in together] == [(r.text, r.new_tokens) for r in alone]
    assert len({r.text for r in alone}) > 1
    with torch.inference_mode():  # one by one, without a cache: what training would have seen
        ids = list(headers[0])
        for _ in range(alone[0].new_tokens):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
    plain = tokenizer.decode(ids[len(headers[0]) :], skip_special_tokens=True)
    assert alone[0].text == plain.strip()


def test_exports_give_the_same_logits_in_a_fresh_process(tiny_base: Path, tmp_path: Path) -> None:
    ids = torch.arange(3, 23)[None]
    for place, (head, settings) in enumerate(VARIANTS):
        if head == "Full":
            continue
        one, model = made(head, tiny_base, "float32", **settings)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.eval()
        one.save(model, tmp_path / str(place))
        with torch.inference_mode():
            torch.save(model(input_ids=ids).logits, tmp_path / str(place) / "logits.pt")
    code = f"""
import sys, torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM
for folder in sorted(Path({str(tmp_path)!r}).iterdir()):
    base = AutoModelForCausalLM.from_pretrained({str(tiny_base)!r}, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(folder)).eval()
    with torch.inference_mode():
        found = model(input_ids=torch.arange(3, 23)[None]).logits
    print(folder.name, float((found - torch.load(folder / "logits.pt")).abs().max()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    differences = dict(line.split() for line in done.stdout.splitlines())
    assert len(differences) == sum(head != "Full" for head, _ in VARIANTS)
    for place, difference in differences.items():
        exact = VARIANTS[int(place)][1].get("init") not in ("pissa", "olora")  # these are converted
        assert float(difference) <= (0 if exact else 1e-4), NAMES[int(place)]


# The optimiser of the formal e-mail recipe; below 4,096 elements its state would have 32 bits.
PAGED = (
    "--optimizer=bitsandbytes.optim.PagedAdamW8bit",
    "--optimizer.min_8bit_size=16",
    "--model.gradient_checkpointing=true",
)


@pytest.mark.parametrize(
    ("head", "more"),
    [*((head, ()) for head in HEADS), ("LoRA", ("--model.quantize=nf4",)), ("LoRA", PAGED)],
    ids=[*HEADS, "LoRA-nf4", "LoRA-paged"],
)
def test_goes_on_after_an_interruption_as_if_there_had_been_none(
    head: str,
    more: tuple[str, ...],
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [f"--model.head={head}", *more, "--trainer.max_epochs=1", "--data.test_size=0"]
    options += ["--optimizer.lr=0.01", "--data.max_length=256"]
    straight = fit(*options, "--name=straight")
    step = ChatTuner.training_step

    def stopping(self: ChatTuner, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(ChatTuner, "training_step", stopping)
        assert main(command("fit", *options, "--name=part")) == 143
    resumed = fit(*options, "--name=part", "--ckpt_path=last")
    files = (run / "checkpoints" / "last.ckpt" for run in (straight, resumed))
    one, two = (torch.load(file, weights_only=True) for file in files)
    assert one["global_step"] == two["global_step"] > 5
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert all(torch.equal(one["state_dict"][n], two["state_dict"][n]) for n in one["state_dict"])


@pytest.mark.parametrize("head", HEADS)
def test_a_new_run_starts_from_an_exported_adapter(
    head: str,
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [f"--model.head={head}", "--data.val_size=8", "--data.test_size=0"]
    options += ["--data.max_length=256", "--trainer.max_epochs=1"]
    run = fit(*options, "--optimizer.lr=0.02")
    start = f"--model.init_adapter={run / subclasses(Head)[head].folder}"
    if head in ("Full", "PTuning", "AdaLoRA"):  # a whole model; no encoder; pruned ranks
        assert main(command("fit", *options, start)) == 2
        assert "model.init_adapter" in capsys.readouterr().err
        return
    again = fit(*options, start, "--optimizer.lr=0")
    first, second = (json.loads((r / "run.json").read_text())["last"] for r in (run, again))
    assert second["val_loss"] == pytest.approx(first["val_loss"], rel=1e-5)


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    """The folder of an exported LoRA on the small base."""
    one, model = made("LoRA", tiny_base, "float32")
    one.save(model, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model.head=VeRA"], "is PeftType.LORA, but the head PeftType.VERA"),
        (["--model.head=PrefixTuning", "--data.max_length=256"], "the head PeftType.PREFIX"),
        (["--model.head=LoRA", "--model.head.r=4"], "has r 16, but the head 4"),
        (["--model.head=LoRA", "--model.head.alpha=7"], "has lora_alpha 32, but the head 7.0"),
        (["--model.head=LoRA", "--model.head.target_modules=[q_proj]"], "does not fit"),
        (["--model.head=LoRA", f"--model.base={PICO}"], "is of another base"),
    ],
)
def test_an_adapter_of_another_head_or_base_is_refused(
    options: list[str],
    says: str,
    adapter: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command("fit", *options, f"--model.init_adapter={adapter}")) == 2
    error = capsys.readouterr().err
    assert "model.head, model.init_adapter: the adapter in" in error
    assert says in error
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapter_config.json", '{"peft_type": '),
        ("adapter_config.json", '{"peft_type": "EVIL"}'),
        ("adapter_config.json", '{"peft_type": null}'),
        ("adapter_config.json", "[]"),
        ("adapter_model.safetensors", "no safetensors"),
    ],
)
def test_a_damaged_adapter_is_refused(
    file: str,
    content: str,
    adapter: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (adapter / file).write_text(content)
    assert main(command("fit", "--model.head=LoRA", f"--model.init_adapter={adapter}")) == 2
    assert "model.init_adapter: the adapter in" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_gradients_are_the_same_after_a_validation(quantize: str) -> None:
    _, model = made("LoRA", PICO, quantize, dropout=0.0)
    ids = torch.arange(3, 60)[None]

    def gradient() -> Any:
        model.train()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    before = gradient()
    model.eval()
    with torch.inference_mode():
        model(input_ids=ids)
    assert torch.equal(before, gradient())


def test_adalora_prunes_to_its_budget(fit: Callable[..., Path]) -> None:
    options = ["--model.head=AdaLoRA", "--model.head.every=2", "--trainer.max_epochs=4"]
    run = fit(*options, "--optimizer.lr=0.01", "--data.val_size=0", "--data.test_size=0")
    weights = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    values = torch.cat([w for name, w in weights.items() if "lora_E" in name])
    layers = sum("lora_E" in name for name in weights)
    assert int((values != 0).sum()) == 8 * layers


EMBEDDINGS = "--model.head.target_modules=[embed_tokens]"
OUTPUT = f"--model.base={PICO} --model.head.target_modules=[lm_head]"


def test_refusals_name_both_keys(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for options, keys in (
        (["PrefixTuning", "--model.gradient_checkpointing=true"], "model.gradient_checkpointing"),
        (["PromptTuning", "--data.max_length=500"], "model.head.num_virtual_tokens"),
        (["LoRA", "--data.max_length=600"], "data.max_length"),
        (["LoRA", "--model.head.init=pissa", "--model.quantize=nf4"], "model.quantize"),
        (["LoRA", "--model.head.layers_to_transform=[7]"], "model.head.layers_to_transform"),
        (["LoRA", "--model.head.layers_to_transform=[0,0]"], "model.head.layers_to_transform"),
        (["LoRA", "--model.head.alpha=0"], "model.head.alpha: 0"),
        (["OFT", "--model.head.block_size=48"], "model.head.block_size: 48 does not divide"),
        (["LoRA", "--model.head.init=olora", "--model.head.dora=true"], "model.head.dora"),
        (["AdaLoRA", "--model.head.target_r=12"], "model.head.target_r"),
        (["VeRA", "--model.head.target_modules=[q_prj]"], "Did you mean 'q_proj'"),
        (["LoRA", "--model.head.dora=true", "--model.quantize=int8"], "model.head.dora"),
        (["IA3", "--model.init_adapter=nowhere"], "model.init_adapter"),
        (["LoRA", "--model.head.init=pissa", "--model.head.r=500"], "model.head.r, model.head.ini"),
        (["LoRA", "--model.head.init=olora", EMBEDDINGS], "model.head.init, model.head.target"),
        (["LoRA", "--model.head.init=pissa", OUTPUT], "shares its weights with the embeddings"),
        (["Full", "--model.quantize=int8"], "model.quantize"),
    ):
        more = [word for option in options[1:] for word in option.split(" ")]
        assert main(command("fit", f"--model.head={options[0]}", *more)) == 2, options
        assert keys in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_unknown_layer_is_answered_with_the_nearest(tiny_base: Path) -> None:
    from tuner.errors import UserError

    for name, says in (("q_prj", "Did you mean 'q_proj'"), ("mlp", "no layer 'mlp'")):
        with pytest.raises(UserError, match=says):
            LoRA(target_modules=[name]).apply(load_base(str(tiny_base)))


def test_dropout_is_on_in_training(fit: Callable[..., Path]) -> None:
    from safetensors.torch import load_file

    options = ["--trainer.max_epochs=2", "--optimizer.lr=0.01", *FAST]
    runs = [fit(*options, f"--model.head.dropout={rate}") for rate in (0, 0.5)]
    first, second = (load_file(run / "adapter" / "adapter_model.safetensors") for run in runs)
    assert any(not torch.equal(first[name], second[name]) for name in first)
