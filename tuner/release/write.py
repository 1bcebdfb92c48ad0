"""An export from end to end: load, merge, write, check, and only then give it its name."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from tuner.backbone import context_length, load_adapter, load_tokenizer
from tuner.data.encode import encode_header
from tuner.errors import UserError
from tuner.evaluation.systems import System
from tuner.generate import stop_ids
from tuner.hold import LOCK, Hold, is_held
from tuner.merging import dense, fold, is_quantised, refuse_virtual
from tuner.release.card import write_card
from tuner.release.check import Check, compare, listen
from tuner.release.modelfile import find_pieces, modelfile
from tuner.release.prompts import BUILT_IN, own_prompts
from tuner.release.template import chat_template
from tuner.runs import read_record
from tuner.sums import write_sums
from tuner.system import disk_error
from tuner.weights import ADAPTER, weights_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

Form = Literal["merged", "adapter"]
Dtype = Literal["bfloat16", "float16", "float32"]
MOST_NEW_TOKENS = 256  # as eval.py has it; where there is no number, transformers stops after 20
CONFIG = "adapter_config.json"


def release(
    system: System, folder: Path, *, form: Form, dtype: Dtype, logs: Path, force: bool = False
) -> tuple[Check, bool]:
    """Write a run into a new folder, which is there whole and checked, or not at all.

    A merged export takes the weights in float32 and the update of one layer: twice the size of
    the base in bfloat16. An adapter takes what evaluation takes. Both are loaded once more, after
    the run's own model is gone, to be checked.

    Args:
        system: the run.
        folder: where to; it may be there if it is empty.
        form: the adapter, or the model with the adapter merged into it; see `refuse_form`.
        dtype: type of merged weights.
        logs: folder of the runs, where comparisons are looked for.
        force: take an export that differs from the run.

    Returns:
        How far the export is from the run, and whether its tokenizer has a chat template that
        writes the prompts of the run.

    Raises:
        UserError: the folder holds something or cannot be written, the base is another one by
            now, or the export differs from the run.
    """
    folder = Path(os.path.expanduser(folder)).resolve()
    part, hold = _claim(folder)
    try:
        prompt, tokenizer = system.prompt, load_tokenizer(system.base, system.revision)
        stops = stop_ids(prompt, tokenizer)
        asked, source = own_prompts(system, prompt, tokenizer)
        conversations = [*BUILT_IN, *asked]
        template = chat_template(prompt, tokenizer, conversations)
        headers = [encode_header(messages, prompt, tokenizer) for messages in asked]
        settings = _generation(tokenizer, stops)
        check = _write_weights(system, part, form, dtype, settings, headers, source)
        if not force:
            check.refuse(_advice(form, dtype))
        if template is None or template != tokenizer.get_chat_template():
            tokenizer.chat_template = template  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.save_pretrained(str(part))
        shown = BUILT_IN[0]  # rows of the data are not to leave with an export
        example = {
            "messages": [turn.as_dict() for turn in shown],
            "text": prompt.header(shown, tokenizer),
        }
        described = system.rendering | {"chat_template": template is not None, "example": example}
        _write(part / "prompt.json", json.dumps(described, ensure_ascii=False, indent=2) + "\n")
        if form == "merged":
            pieces = find_pieces(prompt, tokenizer, conversations) if template else None
            ends = cast("list[str]", tokenizer.convert_ids_to_tokens(stops))
            room = context_length(system.base, system.revision)
            _write(part / "Modelfile", modelfile(pieces, ends, room))
        write_card(
            system,
            part,
            folder.name,
            form=form,
            dtype=dtype,
            check=check,
            chat=template is not None,
            logs=logs,
        )
        write_sums(part)
        for file in part.iterdir():  # safetensors lets nobody else read its files
            shutil.copymode(part / "prompt.json", file)
        part.rename(folder)
        (folder / LOCK).unlink()
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, Exception) and (reason := disk_error(error)):
            raise UserError(f"cannot write to {folder.parent}: {reason}") from error
        raise
    finally:
        hold.close()
    return check, template is not None


def refuse_form(system: System, form: Form) -> None:
    """Refuse a form that the weights of a run cannot have, before anything is loaded.

    Raises:
        UserError: it has no adapter, or one that cannot be merged.
    """
    whole = system.trained.name == "model"
    if form == "adapter" and whole:
        raise UserError(
            f"--form adapter: {system.head} trained the whole model, there is no adapter; leave "
            "--form merged"
        )
    if form == "merged" and not whole:
        refuse_virtual(system.trained)


def _claim(folder: Path) -> tuple[Path, Hold]:
    """A folder of this process beside the one to be; a rename within a file system is one step.

    What exports that were killed have left there is removed.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"--to: {folder} is there already, and not empty; name a new folder")
        for left in folder.parent.glob(f".{escape(folder.name)}.*.part"):
            if not is_held(left):
                shutil.rmtree(left)
        part.mkdir(parents=True)
        return part, Hold(part)
    except OSError as error:
        raise UserError(f"cannot write to {folder.parent}: {error.strerror}") from error


def _generation(tokenizer: Any, stops: Sequence[int]) -> Any:
    """How replies are generated in evaluation, for tools that are told nothing."""
    from transformers import GenerationConfig

    pad = tokenizer.pad_token_id
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(stops),
        pad_token_id=stops[0] if pad is None else pad,
        max_new_tokens=MOST_NEW_TOKENS,
        do_sample=False,
    )


def _write_weights(
    system: System,
    part: Path,
    form: Form,
    dtype: Dtype,
    settings: Any,
    headers: Sequence[Sequence[int]],
    source: str,
) -> Check:
    """Write the weights and compare them, loaded again, with the model of the run."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = system.load(torch.float32, device)
    _refuse_other_base(system)
    said = listen(model, headers, settings)
    if form == "merged":
        if system.trained.name == "adapter":
            model = fold(dense(model, system.trained) if is_quantised(model) else model)
        model = model.to(getattr(torch, dtype))
        model.generation_config = settings
        model.save_pretrained(str(part))
    else:
        shutil.copyfile(system.trained / ADAPTER, part / ADAPTER)
        config = json.loads((system.trained / CONFIG).read_text(encoding="utf-8"))
        # Which base it belongs to, for those who let peft load that.
        config["revision"] = system.revision
        _write(part / CONFIG, json.dumps(config, indent=2) + "\n")
        settings.save_pretrained(str(part))
    model = None  # before the next one is loaded
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc would keep it; other C libraries do not
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return compare(_loaded(system, part, form, device), said, source)


def _refuse_other_base(system: System) -> None:
    """Refuse a base whose weights changed since the training; what is in the cache by now counts.

    Raises:
        UserError: they did.
    """
    if system.trained.name != "adapter":  # a whole model needs no base
        return
    assert system.run is not None
    then = read_record(system.run).get("weights_sha256")
    now = weights_hash(system.base, system.revision)
    if then and now and then != now:
        raise UserError(
            f"{system.base}: its weights are not those that {system.name} was trained on (SHA-256 "
            f"{now[:12]}, then {then[:12]}), so the adapter does not belong to them. Get the base "
            "of that time back, such as with the revision in the run's config.yaml"
        )


def _loaded(system: System, part: Path, form: Form, device: torch.device) -> Any:
    """The export as transformers and peft load it, in float32."""
    if form == "merged":
        return System(system.name, str(part), None, None).load(torch.float32, device)
    base = replace(system, run=None).load(torch.float32, device)
    return load_adapter(base, part)


def _advice(form: Form, dtype: Dtype) -> str:
    """How to go on with an export that differs."""
    ways = ["--force takes it as it is"]
    if form == "merged":
        ways.insert(0, "--form adapter needs no merge")
        if dtype != "float32":
            ways.insert(0, "--dtype float32 rounds less")
    return "; ".join(ways)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
