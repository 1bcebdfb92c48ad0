"""README.md of an export: what it is, what it was made of, how well it does, how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tuner.evaluation.layout import Cell, Table
from tuner.evaluation.reading import read_results
from tuner.evaluation.report import markdown_templates
from tuner.evaluation.tables import differences, headline, summary
from tuner.runs import read_record
from tuner.weights import locate, weights_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuner.evaluation.systems import System
    from tuner.release.check import Check

MERGED = """\
    from transformers import pipeline

    chat = pipeline("text-generation", {folder}, dtype="float32")
    print(chat({prompt})[0]["generated_text"]{last})
"""
ADAPTER = """\
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer{more}

    model = AutoPeftModelForCausalLM.from_pretrained({folder}, dtype="float32"{bits})
    tokenizer = AutoTokenizer.from_pretrained({folder})
"""
BITS = {
    None: "",
    "nf4": """, quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )""",
    "int8": ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)",
}


def write_card(
    system: System,
    folder: Path,
    name: str,
    *,
    form: str,
    dtype: str,
    check: Check,
    chat: bool,
    logs: Path,
) -> None:
    """Write README.md, with the metadata header that hub tools read.

    Args:
        system: the run.
        folder: of the export as it is now.
        name: of the folder as it will be called.
        form: `adapter` or `merged`.
        dtype: type of merged weights.
        check: how far the export is from the run.
        chat: whether the tokenizer has a chat template that writes the run's prompts.
        logs: folder of the runs, where comparisons are looked for.
    """
    assert system.run is not None
    record, card = read_record(system.run), system.card
    results, own = newest_comparison(weights_hash(str(system.trained)), logs)
    licence = licence_of(system.base, system.revision)
    environment = markdown_templates(Path(__file__).parent)
    body = environment.get_template("card.md.j2").render(
        name=name,
        head=system.head,
        base=_short(system.base),
        kind="the adapter" if form == "adapter" else f"merged into one model in {dtype}",
        code=Markup(_code(system, name, form, chat).rstrip("\n")),
        chat=chat,
        rendering=Markup(system.rendering["class_path"].rpartition(".")[2]),
        check=str(check),
        facts=_facts(system, record),
        data=_data(card),
        results=results,
        summary=summary(results) if results else None,
        differences=differences(results, "primary") if results else None,
        tested=_tested(results) if results else None,
        licence=licence,
        data_licence=card["source"]["licence"],
    )
    header = _metadata(system, name, form, licence, results, own).to_yaml()
    text = f"---\n{header.strip()}\n---\n\n{body}\n"
    (folder / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")


def newest_comparison(trained: str | None, logs: Path) -> tuple[dict[str, Any] | None, str]:
    """The newest comparison that some trained weights are part of.

    Args:
        trained: SHA-256 of the weights.
        logs: folder of the runs; comparisons are in its `compare/`.

    Returns:
        The content of its results.json and the name of the weights in it; null where there is none.
    """
    files = sorted((logs / "compare").glob("*/results.json"), key=lambda f: -f.stat().st_mtime)
    for file in files:
        try:
            results = read_results(file.parent)
            for name, one in results["systems"].items():
                if trained and one.get("trained_sha256") == trained:
                    summary(results)  # fails here, and not in the card, where it is
                    differences(results, "primary")
                    return results, name
        except Exception:  # half written, damaged, or of another version
            continue
    return None, ""


def licence_of(base: str, revision: str | None) -> str | None:
    """The licence that a base's own card names; null where there is no card, or it names none."""
    from huggingface_hub import ModelCard, hf_hub_download

    place = Path(locate(base))
    try:
        file = place / "README.md"
        if not place.is_dir():
            file = Path(hf_hub_download(base, "README.md", revision=revision))
        found = ModelCard.load(file, ignore_metadata_errors=True).data.get("license")
    except Exception:  # no such file, no connection, or a header that is none
        return None
    return str(found) if found else None


def _code(system: System, name: str, form: str, chat: bool) -> str:
    folder = repr(name)
    if form == "adapter":
        more = ", BitsAndBytesConfig" if system.quantize else ""
        return ADAPTER.format(folder=folder, more=more, bits=BITS[system.quantize])
    if chat:
        question = '[{"role": "user", "content": "Where is my order?"}]'
        return MERGED.format(folder=folder, prompt=question, last='[-1]["content"]')
    return MERGED.format(folder=folder, prompt='"a prompt as in prompt.json"', last="")


def _pairs(rows: list[tuple[str, object]]) -> Table:
    cells = [(Cell(key), Cell(str(value))) for key, value in rows if value not in (None, "")]
    return Table("", ("what", "value"), cells, left=2)


def _facts(system: System, record: Mapping[str, Any]) -> Table:
    config = system.config
    settings = config["model"]["head"].get("init_args") or {}
    optimizer = config["optimizer"]
    accumulate = config["trainer"]["accumulate_grad_batches"] or 1
    best = record.get("best", {}).get("val_loss")
    versions = record["versions"]
    return _pairs(
        [
            ("base", _short(system.base)),
            ("revision", system.revision),
            ("SHA-256 of the base's weights", record.get("weights_sha256")),
            ("quantisation of the base in training", system.quantize),
            ("head", system.head),
            *((f"head, {key}", value) for key, value in settings.items()),
            ("trained parameters", f"{system.trainable_params:,}"),
            ("of all parameters", f"{system.trainable_percent:.4f} %"),
            ("optimiser", optimizer["class_path"].rpartition(".")[2]),
            ("learning rate", optimizer["init_args"].get("lr")),
            ("rows a step and device", config["data"]["batch_size"] * accumulate),
            ("steps", record.get("steps")),
            ("precision", record["hardware"].get("precision")),
            ("best validation loss (nats a token)", None if best is None else f"{best:.4f}"),
            ("seed", config["seed_everything"]),
            ("commit", record.get("commit")),
            *((name, versions[name]) for name in ("torch", "transformers", "peft")),
        ]
    )


def _data(card: Mapping[str, Any]) -> Table:
    source = {key: value for key, value in card["source"].items() if key != "sources"}
    if "path" in source:
        source["path"] = _short(source["path"])
    parts = (("part", part) for part in card["source"].get("sources", ()))
    splits = ((f"{name} rows", f"{one['rows']:,}") for name, one in card["splits"].items())
    leaks = card["leak_check"]["contaminated"]
    prompt = card["settings"]["prompt"]["class_path"].rpartition(".")[2]
    return _pairs(
        [
            *source.items(),
            *parts,
            ("rows read", f"{card['rows_in']:,}"),
            ("rows used", f"{card['rows_out']:,}"),
            *splits,
            ("test rows that training has seen", leaks),
            ("rendering", prompt),
        ]
    )


def _short(name: str) -> str:
    """A hub id as it is; of a place on this machine its last part, which says nothing of others."""
    return Path(name).name if Path(name).expanduser().exists() else name


def _tested(results: Mapping[str, Any]) -> str:
    """What a comparison was made on, without its place on this machine."""
    return results["test_set"]["source"].split(" (")[0]


def _metadata(
    system: System,
    name: str,
    form: str,
    licence: str | None,
    results: dict[str, Any] | None,
    own: str,
) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    hub = None if Path(locate(system.base)).is_dir() else system.base
    source = system.card["source"]
    found: list[EvalResult] | None = None
    if results:
        values = results["systems"][own]["metrics"]
        tested = _tested(results)
        found = [
            EvalResult(
                task_type="text-generation",
                dataset_type=tested.lower().replace(" ", "-"),
                dataset_name=tested,
                metric_type=key,
                metric_name=key,
                metric_value=values[key],
            )
            for key in headline(results)
            if values.get(key) is not None
        ]
    return ModelCardData(
        base_model=hub,
        base_model_relation=("adapter" if form == "adapter" else "finetune") if hub else None,
        datasets=source.get("hub"),
        library_name="peft" if form == "adapter" else "transformers",
        license=licence,
        model_name=name,
        pipeline_tag="text-generation",
        tags=[system.head.lower(), "tuner"],
        eval_results=found or None,
    )
