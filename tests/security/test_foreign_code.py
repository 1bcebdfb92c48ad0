"""Nothing that comes with a model, an adapter, a cache or a table is run."""

from __future__ import annotations

import ast
import builtins
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tuner.backbone import load_adapter, load_base, load_config, load_tokenizer
from tuner.cli import main
from tuner.errors import UserError
from tuner.evaluation.metrics.semantic import VARIABLE, Semantic

CODE = "from pathlib import Path\nPath({ran!r}).touch()\nclass Any: pass\n"


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that a payload leaves; nobody is asked whether it may."""
    asked: list[object] = []
    monkeypatch.setattr(builtins, "input", lambda *said: asked.append(said) or "n")
    yield tmp_path / "ran"
    assert asked == []


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A base folder of the test's own."""
    return Path(shutil.copytree(tiny_base, tmp_path / "a-base"))


def change(file: Path, **more: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def test_a_payload_would_leave_its_file(ran: Path) -> None:
    pickle.loads(pickle.dumps(Payload(ran)))
    assert ran.exists()


def write(how: str, weights: dict[str, Any], file: Path, ran: Path) -> None:
    if how == "raw":
        file.write_bytes(pickle.dumps(Payload(ran)))
    else:
        torch.save(weights | ({"x": Payload(ran)} if how == "payload" else {}), file)


@pytest.mark.parametrize("how", ["raw", "payload", "tensors alone"])
def test_weights_of_a_base_are_no_pickle(how: str, base: Path, ran: Path) -> None:
    whole = base / "model.safetensors"
    write(how, load_file(whole), base / "pytorch_model.bin", ran)
    load_base(str(base))  # beside safetensors, the other file is not looked at
    whole.unlink()
    with pytest.raises(UserError, match="no safetensors file"):
        load_base(str(base))
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
    (base / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="no safetensors file"):
        load_base(str(base))
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model\.base"):
        load_base(str(base))
    (base / "pytorch_model.bin").rename(whole)  # by another name
    (base / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match=r"model\.base"):
        load_base(str(base))
    assert not ran.exists()


@pytest.mark.parametrize("how", ["raw", "payload"])
def test_weights_of_an_adapter_are_no_pickle(
    how: str,
    tiny_base: Path,
    fit: Callable[..., Path],
    command: Callable[..., list[str]],
    ran: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = fit("--trainer.max_steps=1")
    adapter = run / "adapter"
    load_adapter(load_base(str(tiny_base)), adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    write(how, weights, adapter / "adapter_model.bin", ran)
    with pytest.raises(UserError, match="weights in other files are not loaded"):
        load_adapter(load_base(str(tiny_base)), adapter)
    assert main(command("fit", f"--model.init_adapter={adapter}")) == 2
    assert "weights in other files are not loaded" in capsys.readouterr().err
    assert not ran.exists()


def test_an_adapter_begins_with_no_other_file(
    base: Path, tmp_path: Path, fit: Callable[..., Path], ran: Path
) -> None:
    """One of peft's methods reads its first weights from a file that its settings name."""
    adapter = (
        fit("--model.head=PromptTuning", "--data.max_length=64", "--trainer.max_steps=1")
        / "adapter"
    )
    (other := tmp_path / "other.bin").touch()
    torch.save({"prompt_embeddings": torch.zeros(1)}, other)
    change(
        adapter / "adapter_config.json",
        peft_type="MULTITASK_PROMPT_TUNING",
        prompt_tuning_init="EXACT_SOURCE_TASK",
        prompt_tuning_init_state_dict_path=str(other),
    )
    with pytest.raises(UserError, match="this is no safetensors file"):
        load_adapter(load_base(str(base)), adapter)


def test_a_base_is_of_one_folder(base: Path, tmp_path: Path) -> None:
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").rename(tmp_path / "outside.safetensors")
    listed = {"metadata": {}, "weight_map": dict.fromkeys(weights, "../outside.safetensors")}
    (base / "model.safetensors.index.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match="which is not in its folder"):
        load_base(str(base))


@pytest.mark.parametrize("known", [True, False], ids=["known type", "unknown type"])
@pytest.mark.parametrize("what", ["config", "tokenizer"])
def test_code_beside_a_model_is_not_run(what: str, known: bool, base: Path, ran: Path) -> None:
    (base / "evil.py").write_text(CODE.format(ran=str(ran)))
    if what == "config":
        code = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoModel"), "evil.Any")
        change(base / "config.json", auto_map=code, **({} if known else {"model_type": "evil"}))
        load: Callable[[str], object] = load_base
    else:
        code = {"AutoTokenizer": ["evil.Any", "evil.Any"]}
        other = {} if known else {"tokenizer_class": "EvilTokenizer"}
        change(base / "tokenizer_config.json", auto_map=code, **other)
        load = load_tokenizer
    if known:  # transformers has the class itself
        load(str(base))
    else:
        with pytest.raises(UserError, match=r"model\.base"):
            load(str(base))
    assert not ran.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_attention_by_code_of_the_hub_is_refused(key: str, base: Path) -> None:
    change(base / "config.json", **{key: "evil/kernel"})
    for load in (load_config, load_base):
        with pytest.raises(UserError, match="code of the hub"):
            load(str(base))


def test_attention_of_a_part_of_a_model_is_refused_likewise(tmp_path: Path) -> None:
    wanted = {"": "sdpa", "text_config": "evil/kernel"}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gemma3", "attn_implementation": wanted})
    )
    with pytest.raises(UserError, match="code of the hub"):
        load_config(str(tmp_path))


KERNELS = """
from pathlib import Path
def get_kernel(*args, **options):
    Path({ran!r}).touch()
    raise OSError("no hub")
"""


def test_no_kernel_of_the_hub_is_asked_for(base: Path, ran: Path, tmp_path: Path) -> None:
    """Where the package for them is installed, bitsandbytes would load one as it is imported."""
    site = tmp_path / "site"
    (site / "kernels").mkdir(parents=True)
    (site / "kernels/__init__.py").write_text(KERNELS.format(ran=str(ran)))
    (site / "kernels-9.0.dist-info").mkdir()
    (site / "kernels-9.0.dist-info/METADATA").write_text("Name: kernels\nVersion: 9.0\n")
    change(base / "config.json", attn_implementation="flash_attention_2")  # a kernel by its name
    load = "import bitsandbytes, peft; from tuner.backbone import load_base; load_base({base!r})"
    for code in (load.format(base=str(base)), "import kernels; kernels.get_kernel('x')"):
        assert not ran.exists()
        done = subprocess.run(
            [sys.executable, "-c", f"import {'tuner' if 'tuner' in code else 'json'}; {code}"],
            env=os.environ | {"PYTHONPATH": f"{site}:{ROOT}"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert ("model.base: cannot load" in done.stderr) == ("tuner" in code)
    assert ran.exists(), "the package is found"


def test_a_base_holds_no_adapter(base: Path) -> None:
    """It may name another base, and would be put on unasked."""
    settings = {"peft_type": "LORA", "base_model_name_or_path": "/somewhere/else", "r": 8}
    (base / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        UserError, match=r"model\.base: .* holds an adapter .* --model.init_adapter"
    ):
        load_base(str(base))


def test_an_embedder_is_read_likewise(
    base: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(base))
    change(base / "config.json", attn_implementation="someone/kernel")
    _, model = Semantic()._load()  # pyright: ignore[reportPrivateUsage]
    assert model.config._attn_implementation == "eager"
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(ran)))
    with pytest.raises(UserError, match=VARIABLE):
        Semantic().score([])
    assert not ran.exists()


def test_prepared_data_is_no_pickle(fit: Callable[..., Path], tmp_path: Path, ran: Path) -> None:
    first = fit("--trainer.max_steps=1")
    (index,) = (tmp_path / "cache").glob("*/index.npz")
    arrays = dict(np.load(index))
    arrays["train"] = np.array([Payload(ran)], dtype=object)
    for spoil in (
        lambda: np.savez(index, **arrays),
        lambda: index.write_bytes(pickle.dumps(Payload(ran))),
        lambda: (index.parent / "rows.arrow").write_bytes(pickle.dumps(Payload(ran))),
    ):
        spoil()
        again = fit("--trainer.max_steps=1")  # prepared anew
        cards = [json.loads((run / "data_card.json").read_text()) for run in (first, again)]
        assert cards[0]["splits"] == cards[1]["splits"]
        assert "train" in np.load(index)
    assert not ran.exists()


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "jsonl.gz", "pkl", "pt"])
def test_rows_are_no_pickle(
    ending: str, command: Callable[..., list[str]], tmp_path: Path, ran: Path
) -> None:
    rows = tmp_path / f"rows.{ending}"
    rows.write_bytes(pickle.dumps(Payload(ran)))
    assert main(command("fit", f"--data.source.path={rows}")) == 2
    assert not ran.exists()


PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def suspects(code: str) -> list[str]:
    """What in a piece of code could run what it reads."""
    found: list[str] = []
    for node in ast.walk(ast.parse(code)):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in PICKLES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {one.arg: ast.unparse(one.value) for one in node.keywords}
        if called.endswith("torch.load") and given.get("weights_only") != "True":
            found.append(called)
        if called == "np.load" and given.get("allow_pickle", "False") != "False":
            found.append(called)
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found += [called] if ast.unparse(node.args[-1]) != "_Loader" else []
        if called.rpartition(".")[2] in ("from_pretrained", "from_config") and "Auto" in called:
            found += [called] if "NO_CODE" not in map(ast.unparse, _spread(node)) else []
        if called in ("eval", "exec", "os.system", "pd.read_pickle", "PeftModel.from_pretrained"):
            found.append(called)
    return found


def _spread(call: ast.Call) -> list[ast.expr]:
    spread = [one.value for one in call.keywords if one.arg is None]
    # `options` of load_base holds it.
    return [ast.Name("NO_CODE") if ast.unparse(one) == "options" else one for one in spread]


def test_the_package_has_one_way_to_each_of_them() -> None:
    found = {
        str(file.relative_to(ROOT)): suspects(file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "tuner").rglob("*.py"))
    }
    assert {file: calls for file, calls in found.items() if calls} == {
        "tuner/backbone.py": ["PeftModel.from_pretrained"],  # behind refuse_pickle
        # Makes the embedded model out of its run.
        "tuner/assets/pico/publish.py": ["AutoModelForCausalLM.from_pretrained"],
    }
    assert suspects("import pickle\ntorch.load(f)\nnp.load(f, allow_pickle=True)") == [
        "pickle", "torch.load", "np.load",
    ]  # fmt: skip
    assert suspects("AutoModel.from_pretrained(x); yaml.load(f, Loader); eval(x)") == [
        "AutoModel.from_pretrained", "yaml.load", "eval",
    ]  # fmt: skip
