"""The base model: where it is looked for, what it is when it comes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tuner.backbone import Quantize, load_base, load_tokenizer
from tuner.errors import UserError
from tuner.weights import PICO, locate, weights_hash


def test_places() -> None:
    assert locate("pico") == str(PICO)
    assert locate(str(PICO)) == str(PICO)
    assert locate("owner/name") == "owner/name", "a hub id, as long as there is no such folder"
    with pytest.raises(UserError, match=r"no such folder: .*owner/name"):
        locate("./owner/name")


def test_comes_frozen_in_evaluation_mode_with_the_weights_of_the_file(tiny_base: Path) -> None:
    model = load_base(str(tiny_base), dtype=torch.float32)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    for name, weight in load_file(tiny_base / "model.safetensors").items():
        assert torch.equal(model.get_parameter(name), weight), name


def test_type_is_that_of_the_files_unless_told(tiny_base: Path) -> None:
    assert load_base(str(PICO)).dtype == torch.bfloat16
    assert load_base(str(PICO), dtype=torch.float32).dtype == torch.float32
    assert load_base(str(tiny_base)).dtype == torch.float32


def test_from_scratch_has_the_shape_and_not_the_weights(tiny_base: Path) -> None:
    trained = load_base(str(tiny_base), dtype=torch.float32)
    scratch = load_base(str(tiny_base), dtype=torch.float32, from_scratch=True)
    one, two = trained.state_dict(), scratch.state_dict()
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in two.items()}
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(one[name], two[name])


@pytest.mark.parametrize(("quantize", "kind"), [("nf4", "Linear4bit"), ("int8", "Linear8bitLt")])
def test_quantised_layers_and_an_output_layer_in_full(
    quantize: Quantize, kind: str, tiny_base: Path
) -> None:
    model = load_base(str(tiny_base), quantize=quantize, dtype=torch.float32)
    layers = {name: type(module).__name__ for name, module in model.named_modules()}
    assert layers["model.layers.0.mlp.up_proj"] == kind
    assert layers["lm_head"] == "Linear"
    assert not any(p.requires_grad for p in model.parameters())


def test_hash_is_that_of_the_weight_files_in_order(tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    (base / "a.safetensors").write_bytes(b"more")
    digests = [hashlib.sha256(f.read_bytes()).digest() for f in sorted(base.glob("*.safetensors"))]
    assert weights_hash(str(base)) == hashlib.sha256(b"".join(digests)).hexdigest()
    (base / "a.safetensors").write_bytes(b"else")
    assert weights_hash(str(base)) != weights_hash(str(tiny_base))
    assert weights_hash("owner/not-in-the-cache") is None


def test_what_does_not_load_names_the_ways_out(tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    (base / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no safetensors file.*--model.base pico"):
        load_base(str(base))
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot load the tokenizer of .*--model.base FOLDER"):
        load_tokenizer(str(base))


def test_pico_is_what_its_card_says() -> None:
    card = (PICO / "README.md").read_text(encoding="utf-8")
    training = json.loads((PICO / "training.json").read_text())
    model = load_base("pico")
    count = sum(p.numel() for p in model.parameters())
    assert f"{count:,}" in card
    assert 3_000_000 <= count <= 6_000_000
    assert sum(f.stat().st_size for f in PICO.glob("*.safetensors")) <= 10_000_000
    assert count == training["total_params"]
    tokenizer = load_tokenizer("pico")
    assert (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
        )
        == "<|user|>\nHi</s>\n<|assistant|>\n"
    )
