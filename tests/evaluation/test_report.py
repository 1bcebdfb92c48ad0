"""Reports: what they say, and that hostile text stays text."""

import json
import random
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tuner.evaluation.metric import select_metrics
from tuner.evaluation.metrics.rouge import Rouge
from tuner.evaluation.predictions import Prediction
from tuner.evaluation.report import clip, render_html, render_markdown
from tuner.evaluation.results import Setting, build_results
from tuner.evaluation.score import score
from tuner.evaluation.terminal import render_summary

HOSTILE = (
    "</pre><script>alert(1)</script> ![x](http://evil/a.png) ` <b>\n`````\n````text\n# heading\n"
    "| a | b |\n{{ 7 * 7 }} {% raw %} \x1b[2J\x1b]0;title\x07 \u202etxt \u2028 &amp; <img src=x>"
)
REFERENCE = "one two three four"
RENDERERS = (render_markdown, render_html, render_summary)


def made(
    replies: dict[str, list[str]], metrics: list[str] | None = None, **fields: Any
) -> tuple[dict[str, Any], list[Prediction]]:
    """Builds results and predictions of systems from their replies."""
    n = len(next(iter(replies.values())))
    defaults: dict[str, Any] = {
        "prompt": "<|user|>\nHello",
        "reference": REFERENCE,
        "stop_reason": "eos",
        "new_tokens": 4,
        "seconds": 0.25,
    }
    rows = [
        Prediction(
            **{"id": f"e{i:02}", "category": f"c{i % 2}", **defaults, **fields},
            system=system,
            prediction=text,
        )
        for system, texts in replies.items()
        for i, text in enumerate(texts)
    ]
    scored = score(rows, select_metrics(["rouge1", "rougeL"] if metrics is None else metrics))
    described = {
        "base": "pico",
        "head": "LoRA",
        "trainable_params": 8,
        "trainable_percent": 0.512,
        "batch_size": 2,
        "recipe": "",
        "seed": None,
        "baseline": False,
    }
    setting = Setting(
        test_set={"n": n, "sha256": "0123456789abcdef", "source": "samples"},
        systems=dict.fromkeys(replies, described),
        decoding={"max_new_tokens": 16, "do_sample": False},
        seed=3,
        command="python eval.py lora",
        environment={"python": "3.11"},
    )
    return build_results(scored, setting, resamples=300), scored.predictions


@pytest.fixture
def plain() -> tuple[dict[str, Any], list[Prediction]]:
    return made({"base": ["one x", "two y"] * 10, "lora": [REFERENCE, "one two three"] * 10})


def test_the_tables_hold_the_numbers_of_the_results(
    plain: tuple[dict[str, Any], list[Prediction]],
) -> None:
    results, _ = plain
    text = render_markdown(*plain)
    assert text.startswith("# lora against base\n\n20 examples of samples (sha256 0123456789ab)")
    low, high = results["systems"]["lora"]["ci95"]["rougeL"]
    value = results["systems"]["lora"]["metrics"]["rougeL"]
    assert f"| lora | LoRA | 0.512 % | {value:.3f} ({low:.3f} to {high:.3f}) |" in text
    comparison = next(one for one in results["comparisons"] if one["metric"] == "rougeL")
    low, high = comparison["ci95"]
    assert (
        f"| lora | base | rougeL | {comparison['delta']:+.3f} | {low:+.3f} to {high:+.3f} | "
        f"{comparison['p']:.4f} | {comparison['p_holm']:.4f} | better |"
    ) in text
    assert "| c0 | 10 (few) |" in text
    assert "other training seeds" in text
    for signature in results["systems"]["lora"]["signatures"].values():
        assert signature in text
    assert "`python eval.py lora`" in text
    assert "max\\_new\\_tokens" not in text
    assert "decoding, max_new_tokens: `16`" in text


@pytest.mark.parametrize(
    ("tuned", "higher", "verdict"),
    [
        ([REFERENCE] * 20, True, "better"),
        ([REFERENCE] * 20, False, "worse"),
        (["five"] * 20, True, "worse"),
        (["one two x y"] * 19 + [REFERENCE], True, "no clear difference"),
    ],
)
def test_verdicts(
    tuned: list[str], higher: bool, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rouge, "higher_is_better", higher)
    results, rows = made({"base": ["one two x y"] * 20, "lora": tuned})
    for render in RENDERERS:
        assert f"lora against base: {verdict}. rougeL 0.500 to" in render(results, rows)


def test_verdicts_rest_on_the_adjusted_p(plain: tuple[dict[str, Any], list[Prediction]]) -> None:
    results, rows = plain
    for comparison in results["comparisons"]:
        comparison |= {"p": 0.01, "p_holm": 0.06}
    for render in RENDERERS:
        assert "lora against base: no clear difference." in render(results, rows)


def test_reports_are_made_from_the_two_files_alone(
    plain: tuple[dict[str, Any], list[Prediction]],
) -> None:
    results, rows = plain
    read = json.loads(json.dumps(results))
    read_rows = [Prediction(**json.loads(json.dumps(asdict(row)))) for row in rows]
    for render in RENDERERS:
        assert render(read, read_rows) == render(results, rows)


def test_examples_are_a_seeded_draw_and_the_same_everywhere(
    plain: tuple[dict[str, Any], list[Prediction]],
) -> None:
    results, rows = plain
    drawn = random.Random(3).sample([f"e{i:02}" for i in range(20)], 3)
    assert re.findall(r"### Example \d: (\w+)", render_markdown(*plain)) == drawn
    assert re.findall(r"Example \d of 3 \(random\): (\w+)", render_summary(*plain)) == drawn
    examples = render_html(*plain).split("Worst cases")[0]
    assert re.findall(r"<h3>(\w+)", examples) == drawn
    assert render_markdown(results, rows[::-1]) == render_markdown(results, rows)


def test_every_slice_has_a_table(plain: tuple[dict[str, Any], list[Prediction]]) -> None:
    results, rows = plain
    cells = [
        {**one, "slice": "seen", "value": one["category"].replace("c", "mark")}
        for one in results["categories"]
    ]
    results = results | {"slices": cells}
    text = render_markdown(results, rows)
    assert re.findall(r"^\| (category|seen) \| n \|", text, re.M) == ["category", "seen"]
    assert {cell["value"] for cell in cells} == set(re.findall(r"^\| (mark\d) \| \d", text, re.M))
    page = render_html(results, rows)
    assert re.findall(r"<tr><th>(category|seen)</th><th>n</th>", page) == ["category", "seen"]
    assert page.count("<td>mark0</td>") == 1


def hostile() -> tuple[dict[str, Any], list[Prediction]]:
    results, rows = made(
        {"base": [HOSTILE] * 4, "lora|<b>*x*": [HOSTILE + "one"] * 4},
        prompt=HOSTILE,
        reference=HOSTILE + REFERENCE,
        category=HOSTILE,
    )
    rows = [replace(row, slices={"part": HOSTILE + row.id[-1:]}) for row in rows]
    results["slices"] = [
        {**one, "slice": "part", "value": HOSTILE + str(place)}
        for one in results["categories"]
        for place in range(2)
    ]
    results |= {"command": HOSTILE, "environment": {HOSTILE: HOSTILE}, "decoding": {"x": HOSTILE}}
    return results, rows


def test_markdown_shows_hostile_text_as_text() -> None:
    text = render_markdown(*hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }} {% raw %} \\x1b[2J" in text
    outside = outside_fences(text)
    assert "<script>" not in without_code(outside)
    assert "<img" not in without_code(outside)
    assert "![" not in without_code(outside)
    assert not re.search("^ *# heading", outside, re.MULTILINE)
    tables = [line for line in outside.split("\n") if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert set(cells) == {10, 9, 5}


def outside_fences(text: str) -> str:
    """Leaves out fenced blocks, as CommonMark finds their ends."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        run = re.match("`{3,}", line)
        if not fence and run:
            fence = run.group()
        elif fence and run and len(run.group()) >= len(fence) and line == run.group():
            fence = ""
        elif not fence:
            lines.append(line)
    assert fence == "", "a fence is left open"
    return "\n".join(lines)


def without_code(text: str) -> str:
    """Leaves out code spans, as CommonMark finds their ends."""
    return re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


def test_a_markdown_renderer_finds_no_markup_in_hostile_text() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    rendered = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(
        render_markdown(*hostile())
    )
    tags = set(re.findall(r"<([a-z0-9]+)", rendered))
    assert tags <= {
        "h1", "h2", "h3", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "pre",
        "code", "strong",
    }  # fmt: skip
    assert rendered.count("<h1>") == 1


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that they close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in {"meta", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_shows_hostile_text_as_text() -> None:
    page = render_html(*hostile())
    found = Tags(page)
    assert found.open == []
    assert not found.tags & {"script", "img", "a", "link", "iframe", "form", "b"}
    assert not [name for name in found.attributes if name.startswith("on") or name == "src"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "\x1b" not in page
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7 * 7 }}" in found.text


@pytest.mark.parametrize("text", [HOSTILE, "中文字" * 300, "😀 ok " * 200, "x" * 900, ""])
def test_the_summary_fits_100_columns_and_controls_nothing(text: str) -> None:
    names = {"base": [text] * 4, "a-very-long-run-name/version_12/and-more": [text] * 4}
    results, rows = made(names, prompt=text, reference=text + " one", category=text)
    summary = render_summary(results, rows)
    for line in summary.split("\n"):
        wide = sum(0x2E80 <= ord(one) <= 0x9FFF or ord(one) >= 0x1F000 for one in line)
        assert len(line) + wide <= 100, line
    assert all(one == "\n" or one.isprintable() for one in summary)


def test_one_system_and_no_metrics_make_reports() -> None:
    results, rows = made({"lora": ["a", "b"]}, metrics=[], reference="")
    for render in RENDERERS:
        text = render(results, rows)
        assert "lora" in text
        assert "Differences" not in text
        assert "None" not in text
    alone = made({"base": ["a", "b"]})
    assert render_markdown(*alone).startswith("# base\n")


def test_small_sets_are_called_small(plain: tuple[dict[str, Any], list[Prediction]]) -> None:
    results, rows = plain
    assert "**Only" not in render_markdown(results, rows)
    few = [replace(row, group="ab"[int(row.id[1:]) % 2]) for row in rows]
    results["resampling"]["units"] = 2
    assert "**Only 2 independent units" in render_markdown(results, few)


def test_long_texts_lose_their_middle_and_say_so() -> None:
    text = "a" * 1000 + "b" * 1000
    shown = clip(text, 100)
    assert shown.startswith("a" * 50 + "\n[... 1900 characters left out ...]\n")
    assert shown.endswith("b" * 50)
    assert clip("short", 100) == "short"
