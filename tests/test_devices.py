"""Several devices and machines give what one gives; what cannot work is refused first."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from tuner.backbone import load_base, load_tokenizer
from tuner.checkpoint import load_checkpoint
from tuner.cli import main
from tuner.devices import check_placement, is_sharded, plugins, shard, strategy_settings
from tuner.errors import UserError
from tuner.generate import generate

ROOT = Path(__file__).parent.parent
Fit = Callable[..., Path]
Command = Callable[..., list[str]]
# Gradient descent with momentum: a state to keep, and no blown-up rounding as with Adam.
PLAIN = (
    "--optimizer=torch.optim.SGD", "--optimizer.lr=0.2", "--optimizer.momentum=0.9",
    "--lr_scheduler.decay=constant", "--lr_scheduler.warmup=0", "--trainer.gradient_clip_val=1",
    "--model.head.dropout=0", "--data.val_size=5", "--data.test_size=7",
)  # fmt: skip
ROWS = 28  # 16 to learn from


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def assert_close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Nested values alike; tensors by the norm of their difference."""
    if isinstance(expected, torch.Tensor):
        assert (found - expected).norm() <= tolerance * expected.norm()
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value, tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, two in zip(found, expected, strict=True):
            assert_close(one, two, tolerance)
    else:
        assert found == pytest.approx(expected)


def state(run: Path) -> dict[str, Any]:
    found = load_checkpoint(run / "checkpoints" / "last.ckpt")
    return {key: found[key] for key in ("state_dict", "optimizer_states", "global_step")}


def last(run: Path, key: str) -> float:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)][-1]


def two_machines(commands: list[list[str]], file: Path) -> None:
    """Run command lines on two machines of one process each, as docs/devices.md starts them."""
    file.write_text(json.dumps(commands))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--master-addr", "127.0.0.1", "--master-port", str(port),
    ]  # fmt: skip
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    machines = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(rank), "tests/ranks.py", str(file)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [machine.communicate(timeout=240)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(said)[-6000:]


def test_two_machines_equal_one_process(command: Command, fit: Fit, tmp_path: Path) -> None:
    """All that is asked of two machines, in one start of them: that is what takes long.

    `ddp` on a quantised base; `fsdp` that goes on from the middle of an epoch of a single process,
    to the middle of another one that a single process finishes; replies to 7 test rows, so that
    one machine runs out of them first.
    """
    logs = tmp_path / "logs"

    def run(name: str) -> Path:
        (found,) = (logs / name).glob("version_*")
        return found

    def checkpoint(name: str, which: str = "last") -> str:
        return f"--ckpt_path={run(name) / 'checkpoints' / which}.ckpt"

    long = (*PLAIN, "--trainer.max_epochs=3")
    replies = (*PLAIN, "--samples.count=3", "--samples.max_new_tokens=8", "--data.max_length=128")
    whole = fit(*long, "--name=whole", rows=ROWS)
    fit(*long, "--trainer.max_steps=3", "--name=cut", rows=ROWS)
    nf4 = fit(*replies, "--model.quantize=nf4", "--name=nf4", rows=ROWS)
    assert main(command("predict", *replies, checkpoint("whole", "best"), rows=ROWS)) == 0

    two = ("--trainer.num_nodes=2", "--trainer.devices=1")
    half = (*two, "--data.batch_size=2")
    ddp, fsdp = "--trainer.strategy=ddp", "--trainer.strategy=fsdp"
    for name in ("predict-ddp", "predict-fsdp"):
        shutil.copytree(whole, logs / name / "version_0")
        (run(name) / "predictions.jsonl").unlink()
    commands = [
        ["fit", *replies, *half, ddp, "--model.quantize=nf4", "--name=nf4-two"],
        ["fit", *long, "--samples.count=3", *half, fsdp, "--trainer.max_steps=10", "--name=fsdp",
         checkpoint("cut")],
        # batches of a single process, so that the rows come in its order
        ["predict", *replies, *two, ddp, checkpoint("predict-ddp", "best")],
        ["predict", *replies, *two, fsdp, checkpoint("predict-fsdp", "best")],
    ]  # fmt: skip
    two_machines(
        [command(name, *options, rows=ROWS) for name, *options in commands], tmp_path / "commands"
    )
    back = fit(*long, "--name=back", checkpoint("fsdp"), rows=ROWS)

    # The quantised base: 4-bit arithmetic sums in another order for other batches.
    assert_close(adapter(run("nf4-two")), adapter(nf4), 1e-4)
    assert last(run("nf4-two"), "val_loss") == pytest.approx(last(nf4, "val_loss"), rel=1e-4)
    # 3 sampled replies, and their scores
    assert (run("nf4-two") / "samples.jsonl").read_text() == (nf4 / "samples.jsonl").read_text()
    for key in ("sample_bleu", "sample_rouge1", "sample_rougeL"):
        assert last(run("nf4-two"), key) == last(nf4, key)

    # One process, two with half a base each, one again.
    assert state(run("fsdp"))["global_step"] == 10
    assert_close(state(back), state(whole))
    assert_close(adapter(back), adapter(whole))
    assert last(back, "val_loss") == pytest.approx(last(whole, "val_loss"))
    kept = load_checkpoint(run("fsdp") / "checkpoints" / "best.ckpt")["state_dict"]
    exported = {n.replace(".weight", ".default.weight"): w for n, w in adapter(run("fsdp")).items()}
    assert_close(exported, {n.removeprefix("model."): w for n, w in kept.items()}, 0)
    record = json.loads((run("fsdp") / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["hardware"]["devices"] == 2
    assert record["resumed_from"].endswith("cut/version_0/checkpoints/last.ckpt")

    # Every row once, in the order of a single process.
    expected = (whole / "predictions.jsonl").read_text()
    assert len({json.loads(line)["id"] for line in expected.splitlines()}) == 7
    for name in ("predict-ddp", "predict-fsdp"):
        assert (run(name) / "predictions.jsonl").read_text() == expected, name


SPLIT = {
    "full": ["--model.head=Full"],
    "scratch": ["--model.head=Full", "--model.from_scratch=true"],
    "dora": ["--model.head.dora=true"],
    "pissa": ["--model.head.init=pissa"],
    "checkpointing": ["--model.gradient_checkpointing=true"],
    "accumulation": ["--trainer.accumulate_grad_batches=2"],
    "ia3": ["--model.head=IA3"],
    "ln_tuning": ["--model.head=LNTuning"],
    "oft": ["--model.head=OFT"],
    "vera": ["--model.head=VeRA", "--model.head.dropout=0"],
}


@pytest.mark.slow
def test_every_head_that_can_be_split_learns_as_on_one_device(
    command: Command, fit: Fit, tmp_path: Path
) -> None:
    short = ("--trainer.max_steps=3", "--model.base=pico")  # pico ties its output layer
    split = ("--data.batch_size=2", "--trainer.num_nodes=2", "--trainer.devices=1")
    commands = [
        command("fit", *PLAIN, *more, *short, *split, "--trainer.strategy=fsdp", f"--name={name}-2")
        for name, more in SPLIT.items()
    ]
    two_machines(commands, tmp_path / "commands")
    for name, more in SPLIT.items():
        run = fit(*PLAIN, *more, *short, f"--name={name}")
        (file,) = run.glob("*/*model.safetensors")
        other = tmp_path / "logs" / f"{name}-2" / "version_0" / file.relative_to(run)
        assert_close(load_file(other), load_file(file))


REFUSED: list[tuple[list[str], list[str]]] = [
    (["--model.quantize=int8"], ["model.quantize", "trainer.strategy", "int8"]),
    (["--model.quantize=nf4"], ["model.quantize", "trainer.strategy", "nf4"]),
    (["--model.head=AdaLoRA"], ["model.head", "trainer.strategy", "AdaLoRA"]),
    (["--model.head=PromptTuning"], ["model.head", "trainer.strategy", "PromptTuning"]),
    (["--trainer.precision=16-mixed"], ["trainer.strategy", "trainer.precision", "16-mixed"]),
    (["--trainer.precision=64-true"], ["trainer.strategy", "trainer.precision", "64-true"]),
    (["--trainer.strategy=ddp_spawn"], ["trainer.strategy", "Allowed: auto, ddp, fsdp"]),
    (
        ['--trainer.strategy={"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}'],
        ["trainer.strategy", "auto, ddp, fsdp"],
    ),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=lambda value: value[0])
def test_impossible_pairs_are_refused_before_anything_loads(
    options: list[str],
    words: list[str],
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fsdp = ["--trainer.strategy=fsdp", "--trainer.devices=2"]
    assert main(command("fit", *fsdp, *options)) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error
    assert "Loading weights" not in error
    assert not (tmp_path / "logs").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "fit",
         "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
    ],
    ids=["torchrun", "slurm"],
)  # fmt: skip
def test_processes_that_would_train_each_for_itself_are_refused(
    environment: dict[str, str],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert main(command("fit", "--trainer.devices=1")) == 2
    error = capsys.readouterr().err
    assert "trainer.devices, trainer.num_nodes" in error
    assert "2 are started" in error


def test_two_machines_need_someone_who_starts_both(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("fit", "--trainer.num_nodes=2", "--trainer.devices=2")) == 2
    assert "4 processes, but 2 are started" in capsys.readouterr().err


def test_slurm_requeues_by_its_script_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins() == []
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "fit")
    monkeypatch.setenv("SLURM_PROCID", "0")
    (environment,) = plugins()
    assert not environment.auto_requeue


def test_a_process_in_an_allocation_that_srun_has_not_started_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert main(command("fit")) == 2
    assert "error: SLURM_NTASKS: 4 processes are allocated, but" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert main(command("fit")) == 2
    assert "error: trainer: You set `--ntasks=4`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "saved", "requeued"), [(143, False, True), (0, True, False), (2, False, False)]
)
def test_the_slurm_script_resumes_what_is_saved_and_requeues_what_was_stopped(
    code: int, saved: bool, requeued: bool, tmp_path: Path
) -> None:
    """With stand-ins that note how they were called, and `srun` ending as the training would."""
    for name, end in (("srun", code), ("scontrol", 0)):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/bash\necho "{name} $*" >> called\nexit {end}\n')
        stub.chmod(0o755)
    if saved:
        file = tmp_path / "logs" / "tuner-7" / "version_0" / "checkpoints" / "last.ckpt"
        file.parent.mkdir(parents=True)
        file.touch()
    job = {"SLURM_JOB_NAME": "tuner", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"}
    job |= {"SLURM_NTASKS_PER_NODE": "4", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = [ROOT / "configs" / "slurm.sh", "--config", "configs/lora.yaml"]
    done = subprocess.run(["bash", *script], cwd=tmp_path, env=os.environ | job)
    assert done.returncode == code
    called = (tmp_path / "called").read_text()
    fit = "train.py fit --config configs/lora.yaml --name tuner-7 --trainer.num_nodes 2 "
    assert f"{fit}--trainer.devices 4" in called
    assert ("--ckpt_path last" in called) == saved
    assert ("scontrol requeue 7" in called) == requeued


def placed(devices: int) -> Any:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(num_devices=devices, num_nodes=1, strategy=strategy)


def test_missing_processes_and_a_quantised_base_elsewhere_are_noticed(tiny_base: Path) -> None:
    model = load_base(str(tiny_base), quantize="nf4", dtype=torch.float32)
    check_placement(placed(1), model)
    with pytest.raises(UserError, match=r"trainer.devices.* 2 processes .* but 1 "):
        check_placement(placed(2), model)
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    layer.weight = torch.nn.Parameter(layer.weight.data.to("meta"), requires_grad=False)
    with pytest.raises(RuntimeError, match=r"up_proj\.weight is on meta"):
        check_placement(placed(1), model)


def test_a_quantised_base_is_loaded_to_the_device_of_its_process(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    given: dict[str, Any] = {}
    monkeypatch.setattr(
        AutoModelForCausalLM,
        "from_pretrained",
        lambda *_, **more: given.update(more) or torch.nn.Linear(1, 1),
    )
    load_base(str(tiny_base), quantize="int8", device=torch.device("cuda", 3))
    assert given["device_map"] == {"": "cuda:3"}, "`auto` would spread it over all of them"


@pytest.fixture
def second_of_two() -> Iterator[Any]:
    """A mesh of two devices, without the other one."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    yield init_device_mesh("cpu", (2,))
    distributed.destroy_process_group()


def test_blocks_are_split_with_their_types(second_of_two: Any, tiny_base: Path) -> None:
    """Frozen weights stay in half precision, trained ones in float32, in the same block."""
    base = load_base(str(tiny_base), dtype=torch.bfloat16)
    model = get_peft_model(base, LoraConfig(target_modules="all-linear"))
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    before = {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()}
    assert not is_sharded(model)
    shard(model, second_of_two)
    assert is_sharded(model)
    units = [name for name, m in base.named_modules() if isinstance(m, FSDPModule)]
    assert units == ["", "model.layers.0", "model.layers.1"]
    after = {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()}
    assert after == before
    assert {dtype for _, dtype, _ in before.values()} == {torch.bfloat16, torch.float32}
    for name, weight in model.named_parameters():
        assert isinstance(weight, DTensor), name
        assert weight.placements == (Shard(0),)
        assert len(weight.to_local()) == len(weight) // 2


def test_a_split_model_can_be_trained_after_it_has_replied(
    second_of_two: Any, tiny_base: Path
) -> None:
    """What is gathered in inference mode stays so, and a training step cannot use it."""
    model = get_peft_model(load_base(str(tiny_base)), LoraConfig(target_modules="all-linear"))
    shard(model, second_of_two)
    generate(
        model, [[5, 6, 7]], tokenizer=load_tokenizer(str(tiny_base)), stops=[2], max_new_tokens=2,
        batch_size=1,
    )  # fmt: skip
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert strategy_settings("fsdp", "32-true")["inference_mode"] is False


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        (["--data.batch_size=2", "--trainer.accumulate_grad_batches=2"], False),
        (["--data.batch_size=8"], False),
        (["--trainer.accumulate_grad_batches=2"], False),
        (["--data.batch_size=4"], True),
    ],
)
def test_an_epoch_that_is_cut_otherwise_cannot_go_on(
    more: list[str],
    fits: bool,
    fit: Fit,
    command: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit("--trainer.max_steps=2", "--name=cut")
    resume = ["--trainer.max_steps=3", "--name=cut", "--ckpt_path=last"]
    assert main(command("fit", *resume, *more)) == (0 if fits else 2)
    error = capsys.readouterr().err
    assert fits or ("data.batch_size, trainer.devices" in error and "twice or never" in error)


def test_fp16_on_a_cpu_is_bf16_and_says_so(fit: Fit) -> None:
    with pytest.warns(UserWarning, match="Using `precision='bf16-mixed'` instead"):
        run = fit("--trainer.precision=16-mixed", "--trainer.max_steps=1")
    record = json.loads((run / "run.json").read_text())
    assert record["hardware"]["precision"] == "bf16-mixed"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_split_base_on_gpus(precision: str, command: Command, tmp_path: Path) -> None:
    """On all GPUs of the machine: the adapter of one of them, replies and export included."""
    options = [*PLAIN, "--trainer.accelerator=gpu", f"--trainer.precision={precision}"]
    count = torch.cuda.device_count()
    for name, more in {
        "one": ["--trainer.devices=1", f"--data.batch_size={4 * count}"],
        "all": [f"--trainer.devices={count}", "--data.batch_size=4", "--trainer.strategy=fsdp"],
    }.items():
        arguments = command("fit", *options, *more, f"--name={name}", rows=17 + 8 * count)
        done = subprocess.run(
            [sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, both = (tmp_path / "logs" / name / "version_0" for name in ("one", "all"))
    tolerance = 1e-4 if precision == "32-true" else 5e-2
    assert_close(adapter(both), adapter(one), tolerance)
    assert last(both, "val_loss") == pytest.approx(last(one, "val_loss"), rel=tolerance)
