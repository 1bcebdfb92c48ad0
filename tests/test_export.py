"""What an export says beside its weights."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from tests.attacks.damage import attack, flipped
from tuner.backbone import load_base, load_tokenizer
from tuner.cli import main
from tuner.errors import UserError
from tuner.evaluation.systems import find_system
from tuner.sums import NOT_LISTED, SUMS, check_sums, write_sums
from tuner.weights import ADAPTER


@pytest.mark.parametrize(("head", "folder"), [("LoRA", "adapter"), ("Full", "model")])
def test_the_code_on_the_card_loads_the_export(
    head: str,
    folder: str,
    fit: Callable[..., Path],
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = fit(f"--model.head={head}", "--trainer.max_steps=3", "--optimizer.lr=0.05")
    card = (run / folder / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^ {4}(.*)$", card, re.MULTILINE))
    monkeypatch.chdir(run)
    names: dict[str, object] = {}
    exec(code, names)
    model, tokenizer = names["model"], names["tokenizer"]
    assert isinstance(model, torch.nn.Module)
    assert callable(tokenizer)
    ids = tokenizer("where is my order", return_tensors="pt")["input_ids"]
    own = load_tokenizer(str(tiny_base))("where is my order", return_tensors="pt")["input_ids"]
    assert torch.equal(ids, own)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        plain = load_base(str(tiny_base), dtype=torch.float32)(input_ids=ids).logits
    assert logits.dtype == torch.float32
    assert not torch.allclose(logits, plain), "trained weights are in it"


@pytest.mark.parametrize("cases", [10, pytest.param(3000, marks=pytest.mark.soak)])
def test_no_bit_of_an_export_can_be_changed_unnoticed(
    cases: int,
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    figures: Callable[..., None],
) -> None:
    run = fit("--trainer.max_steps=1")
    file, cpu = run / "adapter" / ADAPTER, torch.device("cpu")
    whole = {one: one.read_bytes() for one in file.parent.iterdir() if one.name not in NOT_LISTED}
    assert {"adapter_config.json", "prompt.json", ADAPTER} <= {one.name for one in whole}

    def check(case: tuple[Path, int]) -> None:
        one, place = case
        one.write_bytes(flipped(whole[one], place))
        with pytest.raises(UserError, match=f"{one.name}: not as it was written"):
            check_sums(file.parent)
        one.write_bytes(whole[one])

    flips = st.sampled_from(sorted(whole)).flatmap(
        lambda one: st.tuples(st.just(one), st.integers(0, 8 * len(whole[one]) - 1))
    )
    tried = attack(cases, flips, check)
    check_sums(file.parent)

    file.write_bytes(whole[file][:-1] + b"x")  # one that loads
    system = find_system(str(run), run.parent.parent)
    with pytest.raises(UserError, match=f"if you changed it yourself, remove .*{SUMS}"):
        system.load(torch.float32, cpu)
    assert main(command("fit", f"--model.init_adapter={file.parent}")) == 2
    assert "not as it was written" in capsys.readouterr().err
    (file.parent / SUMS).write_text("no list")
    with pytest.raises(UserError, match=SUMS):
        system.load(torch.float32, cpu)
    (file.parent / SUMS).unlink()
    assert system.load(torch.float32, cpu), "a run from before there was a list"
    figures("input", "one bit of an export flipped", tried, noticed=tried)


def test_a_whole_model_that_was_changed_is_no_base(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_base, folder)
    write_sums(folder)
    load_base(str(folder))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="not as it was written"):
        load_base(str(folder))
