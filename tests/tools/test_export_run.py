"""An exported run: loaded by plain transformers and peft, it says what the run says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM
from safetensors import SafetensorError
from trained import Trained
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.evaluation.made import REFERENCE, made
from tuner.backbone import load_tokenizer
from tuner.data.encode import encode_header
from tuner.evaluation.systems import System, find_system
from tuner.generate import generate, stop_ids
from tuner.release import write
from tuner.release.prompts import BUILT_IN, own_prompts
from tuner.runs import read_record, write_record
from tuner.tools.export import main
from tuner.weights import PICO

TEXTS = {"README.md", "SHA256SUMS", "chat_template.jinja", "generation_config.json", "prompt.json"}
WORDS = {"tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the command; returns its exit code, output, errors and the folder."""

    def call(run: object, *options: str, name: str = "mine") -> tuple[int, str, str, Path]:
        target = tmp_path / "exports" / name
        capsys.readouterr()
        code = main([str(run), f"--to={target}", f"--logs={tmp_path}", *options])
        said = capsys.readouterr()
        return code, said.out, said.err, target

    return call


def system_of(run: Path) -> System:
    return find_system(str(run), run.parent)


def asked(run: Path, count: int = 4) -> tuple[list[list[int]], Any, list[int]]:
    """Token ids of validation prompts as the run was trained to read them."""
    system = system_of(run)
    tokenizer: Any = load_tokenizer(system.base)
    prompt = system.prompt
    conversations, source = own_prompts(system, prompt, tokenizer)
    assert source == "validation prompts of the run"
    ids = [encode_header(turns, prompt, tokenizer) for turns in conversations[:count]]
    return ids, tokenizer, stop_ids(prompt, tokenizer)


def own_replies(run: Path) -> list[str]:
    """What the run's own model says, as it is evaluated."""
    model = system_of(run).load(torch.float32, torch.device("cpu"))
    ids, tokenizer, stops = asked(run)
    replies = generate(
        model, ids, tokenizer=tokenizer, stops=stops, max_new_tokens=20, batch_size=4
    )
    return [reply.text for reply in replies]


def plain_replies(model: Any, tokenizer: Any, run: Path) -> list[str]:
    """What an export says by the library's own `generate`, with its own settings."""
    found: list[str] = []
    for ids in asked(run)[0]:
        rows = torch.tensor([ids])
        out = model.generate(
            input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=20
        )
        found.append(tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip())
    return found


def logits_of(model: Any, run: Path) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in asked(run)[0]]


def furthest(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def code_of(card: Path) -> str:
    """The code of a card."""
    return "\n".join(re.findall(r"^ {4}(.*)$", card.read_text(encoding="utf-8"), re.MULTILINE))


def test_a_merged_run_is_a_model_of_its_own(lora: Path, export: Any) -> None:
    code, out, _, folder = export(lora)
    assert code == 0
    assert {f.name for f in folder.iterdir()} == TEXTS | WORDS | {
        *("config.json", "model.safetensors", "Modelfile")
    }
    assert [f.name for f in folder.parent.iterdir()] == ["mine"], "no part of it is left"
    assert len({f.stat().st_mode for f in folder.iterdir()}) == 1, "others can read all or nothing"
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    replies = plain_replies(model, tokenizer, lora)
    assert replies == own_replies(lora)
    untrained: Any = AutoModelForCausalLM.from_pretrained(PICO, dtype=torch.float32)
    assert replies != plain_replies(untrained, tokenizer, lora)
    tokens, same = map(int, re.findall(r"(\d+) of (\d+) greedy", out)[0][::-1])
    assert tokens == same > 20
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    example = json.loads((folder / "prompt.json").read_text())["example"]
    assert example["text"] == tokenizer.apply_chat_template(
        example["messages"], tokenize=False, add_generation_prompt=True
    )


def test_the_code_on_a_merged_card_answers(
    lora: Path, export: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(lora, "--dtype=float32", name="a \"b\" 'c' \\n\n# {{ d }} ü")[3]
    monkeypatch.chdir(folder.parent)
    names: dict[str, Any] = {}
    exec(code_of(folder / "README.md"), names)
    said = capsys.readouterr().out.strip()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Where is my order?"}],
        add_generation_prompt=True,
        return_tensors="pt",
    )
    model = system_of(lora).load(torch.float32, torch.device("cpu"))
    out = model.generate(**ids, do_sample=False, max_new_tokens=256)
    expected = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said == expected.strip()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("ia3", "--model.head=IA3"),
        ("prompt", "--model.head=PromptTuning"),
        ("nf4", "--model.quantize=nf4"),
    ],
)
def test_the_code_on_an_adapters_card_loads_it(
    name: str,
    option: str,
    trained: Trained,
    tiny_base: Path,
    export: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = trained(name, f"--model.base={tiny_base}", option)
    pinned = tmp_path / "pinned" / "version_0"
    shutil.copytree(run, pinned)
    write_record(pinned, read_record(pinned) | {"revision": "v1"})
    code, out, _, folder = export(pinned, "--form=adapter")
    assert code == 0
    assert {f.name for f in folder.iterdir()} == TEXTS | WORDS | {write.CONFIG, write.ADAPTER}
    assert json.loads((folder / write.CONFIG).read_text())["revision"] == "v1"
    assert float(re.findall(r"differ by up to (\S+),", out)[0]) < 1e-4
    monkeypatch.chdir(folder.parent)
    names: dict[str, Any] = {}
    exec(code_of(folder / "README.md"), names)
    model = names["model"].eval()
    for layer in model.modules():  # some CPUs compute 4-bit layers in bfloat16; see load_base
        layer.support_avx512bf16_for_cpu = False
    assert plain_replies(model, names["tokenizer"], run) == own_replies(run)


@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_a_quantised_run_is_merged_into_what_it_was_trained_on(
    bits: str, trained: Trained, tiny_base: Path, export: Any
) -> None:
    run = trained(bits, f"--model.base={tiny_base}", f"--model.quantize={bits}")
    code, _, _, folder = export(run, "--dtype=float32")
    assert code == 0
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    live = logits_of(system_of(run).load(torch.float32, torch.device("cpu")), run)
    near = furthest(logits_of(model, run), live)
    whole: Any = AutoPeftModelForCausalLM.from_pretrained(run / "adapter")
    other = furthest(logits_of(whole.merge_and_unload(), run), live)
    assert near < other, "merged into the base's own weights, it is another model"
    if bits == "nf4":  # int8 layers round their inputs, which no dense weights do
        assert near < 1e-3


def test_a_full_run_is_a_model_already(trained: Trained, tiny_base: Path, export: Any) -> None:
    run = trained("full", f"--model.base={tiny_base}", "--model.head=Full", "--optimizer.lr=0.001")
    code, _, err, folder = export(run, "--form=adapter")
    assert code == 2
    assert "--form adapter: Full trained the whole model" in err
    assert not folder.parent.exists()
    assert export(run, "--dtype=float32")[0] == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert plain_replies(model, tokenizer, run) == own_replies(run)


def test_virtual_tokens_have_no_merged_form(trained: Trained, tiny_base: Path, export: Any) -> None:
    run = trained("prompt", f"--model.base={tiny_base}", "--model.head=PromptTuning")
    code, _, err, folder = export(run)
    assert code == 2
    assert "PROMPT_TUNING trains are virtual tokens" in err
    assert "--form adapter" in err
    assert not folder.parent.exists()


def test_an_export_that_says_something_else_gets_no_name(
    lora: Path, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "fold", lambda model: model.unload())  # forgets the adapter
    code, _, err, folder = export(lora)
    assert code == 2
    found = re.search(r"logits differ by up to (\S+), (\d+) of (\d+) greedy tokens", err)
    assert found
    assert float(found[1]) > 1
    assert int(found[2]) < int(found[3])
    for way in ("--dtype float32", "--form adapter", "--force"):
        assert way in err
    assert not list(folder.parent.iterdir())
    code, out, _, _ = export(lora, "--force")
    assert code == 0
    assert found[0] in out
    assert found[0] in (folder / "README.md").read_text()


def test_what_is_there_is_not_written_into(lora: Path, export: Any, tmp_path: Path) -> None:
    target = tmp_path / "exports" / "mine"
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("mine")
    code, _, err, _ = export(lora)
    assert code == 2
    assert "is there already, and not empty" in err
    assert [f.name for f in target.iterdir()] == ["thesis.txt"]
    (target / "thesis.txt").unlink()
    assert export(lora, "--form=adapter")[0] == 0, "an empty folder is fine"
    shutil.rmtree(target)
    target.write_text("a file")
    assert export(lora)[0] == 2
    shutil.rmtree(target.parent, ignore_errors=True)


def test_a_base_that_changed_is_refused(lora: Path, export: Any, tmp_path: Path) -> None:
    copy = tmp_path / "lora" / "version_0"
    shutil.copytree(lora, copy)
    write_record(copy, read_record(copy) | {"weights_sha256": "0" * 64})
    code, _, err, folder = export(copy)
    assert code == 2
    assert "pico: its weights are not those" in err
    assert not list(folder.parent.iterdir())


def test_sigterm_leaves_nothing(
    lora: Path, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stopped(*_: object) -> None:
        assert list((tmp_path / "exports").glob(".mine.*/model.safetensors"))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(write, "compare", stopped)
    with pytest.raises(SystemExit) as stop:
        export(lora)
    assert stop.value.code == 143
    assert not list((tmp_path / "exports").iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_one_message(
    lora: Path, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "I/O error: No space left on device (os error 28)"

    def full(*_: object) -> None:
        raise SafetensorError(said)

    monkeypatch.setattr(write, "_write_weights", full)
    code, _, err, folder = export(lora)
    assert code == 2
    assert err == f"error: cannot write to {folder.parent}: {said}\n"
    assert not list(folder.parent.iterdir())


def test_a_rendering_without_a_template_is_exported_without_one(
    trained: Trained, tiny_base: Path, export: Any
) -> None:
    prompt = ("--data.prompt=CustomerAgent", "--data.prompt.prefix=[priority]")
    run = trained("agent", f"--model.base={tiny_base}", *prompt)
    code, _, err, folder = export(run)
    assert code == 0
    assert "no chat template writes prompts as the run reads them" in err
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(ValueError, match="chat_template"):
        tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}])
    described = json.loads((folder / "prompt.json").read_text())
    assert described["init_args"] == {"prefix": ["priority"]}
    assert described["chat_template"] is False
    text = described["example"]["text"]
    ids = encode_header(BUILT_IN[0], system_of(run).prompt, tokenizer)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    assert "[PRIORITY: " in text
    assert "There is no chat template" in (folder / "README.md").read_text()
    assert "\nTEMPLATE" not in (folder / "Modelfile").read_text()


def test_the_card_says_what_is_known(lora: Path, export: Any, tmp_path: Path) -> None:
    system = system_of(lora)
    results, _ = made({"base": [REFERENCE, "one"], "mine": [REFERENCE, REFERENCE]})
    results["systems"]["mine"]["trained_sha256"] = system.hashes["trained_sha256"]
    results["test_set"]["source"] = f"Conversations ({tmp_path}/mine.jsonl)"
    for place, (name, changed) in enumerate([("old", {}), ("lora", results), ("bad", None)]):
        file = tmp_path / "compare" / name / "results.json"
        file.parent.mkdir(parents=True)
        file.write_text("{" if changed is None else json.dumps(changed))
        os.utime(file, (place, place))
    folder = export(lora)[3]
    card = ModelCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-generation")
    assert data["license"] == "cc-by-sa-4.0"
    assert "base_model" not in data, "pico is no model of a hub"
    assert {one.metric_type: one.metric_value for one in card.data.eval_results} == {
        key: results["systems"]["mine"]["metrics"][key] for key in ("rougeL", "rouge1")
    }
    trained_parameters = f"{read_record(lora)['trainable_params']:,}"
    for fact in ("| head, r | 16 |", "as stated by its owner", "rougeL", trained_parameters):
        assert fact in card.text
    assert str(tmp_path) not in str(card), "others need not know of places on this machine"
    assert str(ModelCard(str(card))) == str(card)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("loar", (), "Did you mean 'lora'?"),
        ("lora@*", (), "these are several; name one: lora@0, lora@1"),
        ("lora", ("--form=gguf",), "form: 'gguf' is not allowed"),
        ("lora", ("--dtype=int4",), "dtype: 'int4' is not allowed"),
        ("lora@0", ("--dtype=float32", "--form=adapter"), "an adapter keeps its type"),
    ],
)
def test_export_mistakes(
    spec: str, options: tuple[str, ...], message: str, lora: Path, export: Any, tmp_path: Path
) -> None:
    for number in (0, 1):
        folder = tmp_path / "lora" / f"version_{number}"
        shutil.copytree(lora, folder)
        (folder / "config.yaml").write_text(f"seed_everything: {number}\ndata: {{}}\n")
    code, _, err, _ = export(spec, *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
