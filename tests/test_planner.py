"""What a plan says is what training takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.attention import attend_by_row
from tuner.backbone import load_base
from tuner.cli import main
from tuner.errors import UserError
from tuner.hardware import GPUS, Device, find_device
from tuner.heads import Head
from tuner.heads.full import Full
from tuner.heads.lora import LoRA
from tuner.loss import summed_loss
from tuner.module import ChatTuner
from tuner.planner import Planner, Settings
from tuner.plugins import subclasses
from tuner.rehearsal import Rehearsal, nf4_bytes
from tuner.tracking import Tracker

ROOM = Device("cpu", False, 2**40, 0)


def storages(tensors: Any) -> int:
    """Bytes of tensors, each storage once."""
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()
    )


@pytest.mark.parametrize("head", subclasses(Head).values())
def test_every_head_is_planned_without_weights(head: type[Head], tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 512}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    (base / "config.json").write_text(json.dumps(config))
    found = Rehearsal(ChatTuner(str(base), head()), "bf16-mixed").step(2, 32)
    assert found.parts["adapter"] > 0
    assert found.parts["logits"] > 0
    assert found.flops > 0


@pytest.mark.parametrize("quantize", [None, "nf4", "int8"])
def test_weights_are_those_of_a_loaded_model(quantize: Any, tiny_base: Path) -> None:
    module = ChatTuner(str(tiny_base), LoRA(), quantize=quantize)
    said = Rehearsal(module, "32-true").step(1, 8).parts
    base = load_base(str(tiny_base), quantize=quantize, dtype=torch.float32)
    tensors = [*base.parameters(), *base.buffers()]
    for weight in base.parameters():
        if state := getattr(weight, "quant_state", None):
            tensors += [state.absmax, state.state2.absmax, state.state2.code, state.code]
            tensors.append(state.offset)
        elif getattr(weight, "SCB", None) is not None:
            tensors.append(weight.SCB)
    assert said["weights"] == pytest.approx(storages(tensors), rel=0.01)
    trained = LoRA().apply(base)
    assert said["adapter"] == sum(p.nbytes for p in trained.parameters() if p.requires_grad)


def test_adapter_and_optimiser_are_those_of_a_checkpoint(
    fit: Callable[..., Path], tiny_base: Path
) -> None:
    run = fit("--trainer.max_steps=1")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    said = Rehearsal(ChatTuner(str(tiny_base)), "32-true").step(1, 8).parts
    assert said["adapter"] == sum(t.nbytes for t in saved["state_dict"].values())
    states = saved["optimizer_states"][0]["state"].values()
    moments = sum(s[name].nbytes for s in states for name in ("exp_avg", "exp_avg_sq"))
    steps = 64 * len(states)  # a counter each, in the smallest block there is
    assert said["optimiser"] == moments + steps


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("head", [LoRA, Full])
def test_ops_without_content_are_those_of_real_tensors(
    head: type[Head], checkpointing: bool, tiny_base: Path
) -> None:
    module = ChatTuner(str(tiny_base), head(), gradient_checkpointing=checkpointing)
    said = Rehearsal(module, "32-true").step(3, 40)
    base = load_base(str(tiny_base), dtype=torch.float32)
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    model = head().apply(base).train()
    attend_by_row(model)
    ids = torch.randint(5, 500, (120,))
    batch: Any = {"input_ids": ids, "labels": ids, "lengths": [40] * 3}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    tracker = Tracker(64)
    for tensor in [*model.parameters(), *model.buffers()]:
        tracker.assign(tensor, "model")
    with tracker:
        for _ in range(2):
            tracker.start()
            total, _ = summed_loss(model, batch)
            optimizer.zero_grad()
            total.backward()
            flops = tracker.flops
            del total
            optimizer.step()
    assert said.flops == flops
    assert said.peak == pytest.approx(tracker.peak.total(), rel=0.03)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("torch.optim.AdamW", 2.0),
        ("torch.optim.SGD", 0.0),
        ("torch.optim.Adagrad", 1.0),
        ("torch.optim.Adafactor", 0.01),
        ("bitsandbytes.optim.PagedAdamW8bit", 0.51),
    ],
)
def test_state_of_optimisers(name: str, share: float) -> None:
    chosen = {"class_path": name, "init_args": {"lr": 1e-3}}
    said = Rehearsal(ChatTuner("pico", Full(), optimizer=chosen), "32-true").step(1, 8).parts
    # `share` is of the float32 weights that it looks after.
    assert said["optimiser"] / said["adapter"] == pytest.approx(share, abs=0.01)


def test_nf4_is_a_little_more_than_four_bits() -> None:
    assert 0.5 < nf4_bytes(2**24) / 2**24 < 0.52


def test_largest_batch_fits_and_one_row_more_does_not() -> None:
    settings = Settings("32-true", 4, 64)
    module = ChatTuner("pico")
    device = Device("small", True, 60 * 2**20, 0)
    planner = Planner(module, settings, device)
    largest = planner.largest_batch()
    assert largest > 1
    sizes = [sum(planner.parts(rows).values()) for rows in (largest, largest + largest // 10 + 1)]
    assert sizes[0] <= device.memory < sizes[1]
    assert Planner(module, settings, Device("tiny", True, 2**20, 0)).largest_batch() == 0


def test_remedies_fit() -> None:
    device = Device("small", True, 120 * 2**20, 0)
    planner = Planner(ChatTuner("pico"), Settings("32-true", 16, 256), device)
    assert not planner.plan()["fits"]
    said = planner.remedies()
    assert any("batch_size" in line and "accumulate" in line for line in said)
    assert all(float(line.rsplit(": ")[1].removesuffix(" MiB")) <= 120 for line in said)


def test_devices() -> None:
    assert find_device("a100-80gb", torch.bfloat16).name == "A100-80GB"
    assert find_device("12GB", torch.bfloat16).flops is None
    assert find_device("cpu", torch.float32).flops
    assert all(find_device(name, torch.bfloat16).memory > 2**33 for name in GPUS)
    with pytest.raises(UserError, match="A100-80GB"):
        find_device("A100-80", torch.float32)


STEP = """
import sys, torch
sys.argv = ["train.py"]
from tuner.module import ChatTuner
from tuner.process import start
def resident(key):
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Vm"))
    return int(lines[key].split()[0]) * 1024
load = ChatTuner.configure_model
def configure(self):
    if self.model is None:
        print("program", resident("VmRSS"))
    load(self)
ChatTuner.configure_model = configure
torch.set_num_threads(1)
assert start("tuner.cli", {arguments}) == 0
print("peak", resident("VmHWM"))
"""


def measure(arguments: Sequence[str], **environment: str) -> tuple[int, int]:
    """Resident bytes before anything is loaded, and at most, of a fit in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", STEP.replace("{arguments}", repr(list(arguments)))],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split() for line in done.stdout.splitlines() if line.startswith("p"))
    return int(found["program"]), int(found["peak"])


@pytest.fixture(scope="module")
def large_base(make_base: Callable[..., Path]) -> Path:
    """A base whose step is much more than the program."""
    return make_base(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8,
        vocab_size=32000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def deep_base(make_base: Callable[..., Path]) -> Path:
    """A base with more layers and a smaller vocabulary: 40 million parameters."""
    return make_base(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, vocab_size=16384,
    )  # fmt: skip


def write_rows(folder: Path, length: int) -> Path:
    """Eight rows of exactly so many tokens, nearly all with loss."""
    file = folder / "rows.jsonl"
    words = ["of", "and", "to", "in", "is", "for", "on", "with"]
    said = [[words[i * n % 8] for i in range(length - 14)] for n in range(1, 9)]
    rows = [{"prompt": "the", "completion": " ".join(["the", *row])} for row in said]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


@pytest.fixture
def full_rows(tmp_path: Path) -> Path:
    """Rows of 256 tokens."""
    return write_rows(tmp_path, 256)


CASES = [
    ["--trainer.precision=32-true"],
    ["--trainer.precision=bf16-mixed"],
    ["--model.gradient_checkpointing=true"],
    ["--model.quantize=nf4"],
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("case", "exact"),
    [
        (CASES[0], True),
        *(pytest.param(case, True, marks=pytest.mark.slow) for case in CASES[1:]),
        *(pytest.param(case, False, marks=pytest.mark.slow) for case in CASES),
    ],
)
def test_peak_of_a_fit_is_within_a_fifth(
    case: list[str], exact: bool, command: Any, large_base: Path, full_rows: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from tuner.tools.plan import main as plan

    options = [
        f"--model.base={large_base}", f"--data.source.path={full_rows}", "--data.batch_size=8",
        "--data.max_length=256", "--data.val_size=0", "--data.test_size=0",
        "--data.curation.near_duplicates=keep", "--trainer.max_steps=2", *case,
    ]  # fmt: skip
    # With it, the C library gives freed memory back, and what is resident is what is in use.
    environment = {"MALLOC_TOP_PAD_": "0"} if exact else {}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    program, peak = measure(command("fit", *options), **environment)
    assert plan([*command("fit", *options)[1:], "--device=cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    own = said["peak"] - said["parts"]["program"]
    assert own == pytest.approx(peak - program, rel=0.2)
    assert own + program == pytest.approx(peak, rel=0.2)


DEEP = [
    (4, 512, ["--model.gradient_checkpointing=true"]),
    (4, 256, []),
    (2, 256, ["--model.head=Full"]),
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize(("rows", "length", "case"), DEEP)
def test_what_the_c_library_keeps_is_in_the_plan(
    rows: int, length: int, case: list[str], command: Any, deep_base: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from tuner.tools.plan import main as plan

    options = [
        f"--model.base={deep_base}", f"--data.source.path={write_rows(tmp_path, length)}",
        f"--data.batch_size={rows}", f"--data.max_length={length}", "--data.val_size=0",
        "--data.test_size=0", "--data.curation.near_duplicates=keep", "--trainer.max_steps=2",
        *case,
    ]  # fmt: skip
    program, peak = measure(command("fit", *options))
    assert plan([*command("fit", *options)[1:], "--device=cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    own = said["peak"] - said["parts"]["program"]  # which is that of the tests here
    assert own + program == pytest.approx(peak, rel=0.2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_peak_on_a_gpu_is_within_a_fifth(
    case: list[str], command: Any, large_base: Path, full_rows: Path
) -> None:
    options = [
        f"--model.base={large_base}", f"--data.source.path={full_rows}", "--data.batch_size=8",
        "--data.max_length=256", "--data.val_size=0", "--data.test_size=0",
        "--data.curation.near_duplicates=keep", "--trainer.max_steps=3",
        "--trainer.accelerator=gpu", "--trainer.devices=1", *case,
    ]  # fmt: skip
    torch.cuda.reset_peak_memory_stats()
    assert main(command("fit", *options)) == 0
    settings = dict(option[2:].split("=") for option in case)
    module = ChatTuner(
        str(large_base),
        quantize="nf4" if "model.quantize" in settings else None,
        gradient_checkpointing="model.gradient_checkpointing" in settings,
    )
    precision = settings.get("trainer.precision", "32-true")
    said = Rehearsal(module, precision, gpu=True).step(8, 256)
    assert said.peak == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.2)
