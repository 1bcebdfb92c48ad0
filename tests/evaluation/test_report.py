"""Reports: what they say, and that hostile text stays text."""

import json
import random
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browsing import needs_browser, open_browser
from made import HOSTILE, REFERENCE, SPREAD, WAITING, hostile, made, ratings

from tuner.evaluation import terminal
from tuner.evaluation.metrics.rouge import Rouge
from tuner.evaluation.predictions import Prediction
from tuner.evaluation.report import render_html, render_markdown
from tuner.evaluation.terminal import render_summary
from tuner.evaluation.view import clip

RENDERERS = (render_markdown, render_html, render_summary)


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
        f"{comparison['p']:.4f} | {comparison['p_holm']:.4f} | {comparison['detectable']:.3f} | "
        "better |"
    ) in text
    assert "| c0 | 10 (few) |" in text
    assert "other training seeds" in text
    for signature in results["systems"]["lora"]["signatures"].values():
        assert signature.replace("|", "\\|").replace("[a-z0-9]", "\\[a-z0-9\\]") in text
    assert "`python eval.py lora`" in text
    assert "| decoding, max_new_tokens | 16 |" in text


@pytest.mark.parametrize(
    ("tuned", "higher", "verdict"),
    [
        ([REFERENCE] * 20, True, "better"),
        ([REFERENCE] * 20, False, "worse"),
        (["five"] * 20, True, "worse"),
        (["one two x y"] * 19 + [REFERENCE], True, None),
    ],
)
def test_verdicts(
    tuned: list[str], higher: bool, verdict: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rouge, "higher_is_better", higher)
    results, rows = made({"base": ["one two x y"] * 20, "lora": tuned})
    lead = (
        f"lora is {verdict} than base" if verdict else "No clear difference between lora and base"
    )
    for render in RENDERERS:
        said = re.sub(r"<[^>]*>|\*\*|: ", "", render(results, rows))
        assert f"{lead}rougeL 0.500 to" in said


def test_verdicts_rest_on_the_adjusted_p(plain: tuple[dict[str, Any], list[Prediction]]) -> None:
    results, rows = plain
    for comparison in results["comparisons"]:
        comparison |= {"p": 0.01, "p_holm": 0.06}
    for render in RENDERERS:
        assert "No clear difference between lora and base" in render(results, rows)


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
    examples = render_html(*plain).split("<h2>Examples")[1].split("<h2>")[0]
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
    assert re.findall(r'<th scope="col" class="text">(category|seen)</th>', page) == [
        "category",
        "seen",
    ]
    assert page.count('<td class="text">mark0</td>') == 1


def test_markdown_shows_hostile_text_as_text() -> None:
    text = render_markdown(*hostile())
    assert all(one == "\n" or one.isprintable() or one == "\ufffe" for one in text)
    assert "{{ 7 * 7 }} {% raw %} \\x1b[2J" in text
    outside = without_code(outside_fences(text))
    for sign in ("<script>", "<img", "![", "http://", "www.evil", "me@evil"):
        assert sign not in outside
    assert not re.search("^ *# heading", outside, re.MULTILINE)
    tables = outside_fences(text).split("\n\n")
    for lines in (table.split("\n") for table in tables if table.startswith("|")):
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}) == 1, lines[0]


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


def test_no_hostile_text_is_a_formula() -> None:
    """GitHub and others render what stands between dollar signs."""
    text = without_code(outside_fences(render_markdown(*hostile())))
    assert "frac" in text
    assert not re.search(r"(?<!\\)\$", text)


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
        self.attributes: dict[str, set[str]] = {}
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "div"),
    *("h1", "h2", "h3", "h4", "p", "strong", "span", "small", "table", "tr", "th", "td"),
    *("pre", "details", "summary", "figure", "figcaption"),
    *("svg", "g", "path", "defs", "use", "text", "clippath", "rect"),
}


def test_html_shows_hostile_text_as_text() -> None:
    page = render_html(*hostile())
    found = Tags(page)
    assert found.open == []
    assert found.tags <= TAGS
    assert len(found.ids) == len(set(found.ids))
    assert found.attributes.keys() <= {
        *("aria-label", "charset", "class", "clip-path", "content", "d", "height", "href", "id"),
        *("http-equiv", "lang", "name", "open", "role", "scope", "style", "tabindex"),
        *("transform", "viewbox", "width", "x", "xmlns", "y"),
    }
    assert all(one.startswith("#") for one in found.attributes["href"])
    assert not [one for one in found.attributes["style"] if re.search(r"url\((?!#)", one)]
    assert not found.attributes["class"] & {"lead <b>", "script"}
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "\x1b" not in page
    assert "\x00" not in page
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
    assert all(one in "\n\ufffe" or one.isprintable() for one in summary)


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


def full() -> tuple[dict[str, Any], list[Prediction]]:
    """Five systems with everything that a report can show."""
    replies = {
        "base": ["one x", "two y"] * 12,
        "lora@0": [REFERENCE, "one two three"] * 12,
        "lora@1": [REFERENCE, "one two"] * 12,
        "majority": ["one two five"] * 24,
        "nearest": [REFERENCE] * 24,
    }
    results, rows = made(
        replies,
        ["bleu", "rouge1", "rougeL", "length_ratio", "polarity"],
        baselines=("majority", "nearest"),
        recipes={"lora@0": "lora", "lora@1": "lora"},
    )
    for system in results["systems"].values():
        system["latency"]["alone"] = {} if system["baseline"] else {"adapter": WAITING}
    results["seeds"] = {"lora": {"runs": ["lora@0", "lora@1"], "metrics": {"rougeL": SPREAD}}}
    results["human"] = ratings("base", "lora@0")
    results["curves"] = {"lora@0": {"train": [[1, 4.0], [9, 0.1]], "val": [[9, 0.2]]}}
    results["forgetting"] = {
        "texts": 60,
        "systems": {
            "base": {"metrics": 4.9399, "ci95": [4.8, 5.0]},
            "lora@0": {"metrics": 7.3395, "ci95": [7.2, 7.4]},
        },
        "comparisons": [
            {"a": "base", "b": "lora@0", "metric": "nll", "delta": 2.3996, "ci95": [2.31, 2.47]}
            | {"p": 0.0001, "p_holm": 0.0002, "n": 60}
        ],
    }
    return results, rows


def test_every_number_of_the_results_stands_in_a_table() -> None:
    results, rows = full()
    text, page = render_markdown(results, rows), render_html(results, rows)
    bare = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    for one in results["comparisons"]:
        low, high = one["ci95"]
        cells = [one["b"], one["a"], one["metric"], f"{one['delta']:+.3f}"]
        cells += [f"{low:+.3f} to {high:+.3f}", f"{one['p']:.4f}", f"{one['p_holm']:.4f}"]
        assert f"| {' | '.join(cells)} |" in text
        assert " ".join(cells) in bare
    cells = [*results["systems"].values(), *results["categories"], *results["slices"]]
    for one in cells:
        keys = one["metrics"] if "head" in one else ["rougeL"]
        for key in keys:
            low, high = one["ci95"][key]
            assert f" {one['metrics'][key]:.3f} ({low:.3f} to {high:.3f}) |" in text
            assert f" {one['metrics'][key]:.3f} {low:.3f} to {high:.3f} " in bare
    for said in ("0.123 | 0.234 | 0.012 | 0.023 | 45.7", "70.0% (39.7% to 89.2%) | 10 | 3.877"):
        assert said in text
        assert re.sub(r"[|()]", "", said).replace("  ", " ") in bare
    for said in ("87.5% (52.9% to 97.8%)", "0.654 (0.200 to 0.900)", "no two raters have rated"):
        assert said in text


def test_baselines_forgetting_seeds_and_people_are_said_in_sentences() -> None:
    results, rows = full()
    text = render_markdown(results, rows)
    assert "**lora@0 is better than base**: rougeL" in text
    assert "**lora@0 beats the baseline majority**" in text
    assert "**lora@1 does not beat the baseline nearest, it is worse**" in text
    assert "has become worse on general text by 2.400 nats a token, a sign of forgetting" in text
    assert "**2 training seeds of lora**: rougeL 0.432 on average, standard deviation 0.012" in text
    assert "no clear preference for lora@0 or base**: 7 wins of lora@0, 1 losses, 1 ties" in text
    assert "other training seeds" not in text
    for one in results["comparisons"]:
        one["p_holm"] = 1.0
    assert "does not beat the baseline majority, there is no clear" in render_markdown(
        results, rows
    )


def test_unknown_values_and_ratings_of_other_answers_are_dashes_and_a_sentence() -> None:
    results, rows = full()
    for system in results["systems"].values():
        system["metrics"]["polarity"] = system["ci95"]["polarity"] = None
    results["human"] = {"problem": "ratings.sqlite holds ratings of other answers"}
    results["comparisons"] = [o for o in results["comparisons"] if o["metric"] != "polarity"]
    results["forgetting"] = results["data_card"] = None
    for render in RENDERERS:
        text = render(results, rows)
        assert "None" not in text
        assert "holds ratings of other answers" in text
    assert "| nearest | - |" in render_markdown(results, rows).split("### Tone")[1]


def test_the_data_card_is_part_of_the_report() -> None:
    results, rows = full()
    results["data_card"] = {
        "source": {"name": "Conversations", "sha256": "ab12"},
        "settings": {"test_size": 0.15, "curation": {}},
        "rows_in": 1610,
        "rows_out": 1600,
        "dropped": {"too long": 10},
        "splits": {"train": {"rows": 1155, "groups": 225, "sha256": "86958f1f9da215"}},
        "leak_check": {"test_rows": 270, "contaminated": 4, "prompts_exact": 3},
    }
    text = render_markdown(results, rows)
    lines = ["| rows in | 1,610 |", "| too long | 10 |", "| of them contaminated | 4 |"]
    lines += ["| train | 1,155 | 225 | - | - | 86958f1f9da2 |", "| test_size | 0.15 |"]
    for line in lines:
        assert line in text


def test_the_summary_of_many_systems_and_metrics_fits_100_columns() -> None:
    summary = render_summary(*full())
    assert max(map(len, summary.split("\n"))) <= 100
    assert "does not beat the baseline nearest" in summary
    assert re.search(r"^system +trainable +rougeL +95 % interval +ended +bleu", summary, re.M)


def test_a_large_comparison_stays_a_small_page() -> None:
    results, rows = full()
    many = [
        replace(row, id=f"{row.id}-{n}", prediction=row.prediction * 200, prompt="why? " * 400)
        for row in rows
        for n in range(40)
    ]
    for one in [*results["worst"], *results["losses"]]:
        one["id"] += "-0"
    assert len(render_html(results, many)) < 2_000_000


browser = pytest.fixture(open_browser)


@needs_browser
def test_a_browser_finds_text_and_nothing_to_run_or_fetch(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(*hostile()), encoding="utf-8", errors="backslashreplace")
    browser.set_window_size(400, 900)
    browser.get(page.as_uri())
    ask = browser.execute_script
    assert "<script>alert(1)" in browser.title
    assert ask("return document.querySelectorAll('script, img, iframe, a, link').length") == 0
    assert ask("return performance.getEntriesByType('resource').length") == 0
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
    assert ask("return document.querySelectorAll('figure svg').length") >= 5
    assert ask("return document.documentElement.scrollWidth <= innerWidth"), "the page is too wide"


def test_a_name_of_any_length_is_one_line() -> None:
    name = "a\tname\n" + "A" * 100_000
    line = terminal._cut(name)  # pyright: ignore[reportPrivateUsage]
    assert line.startswith("a name AAA")
    assert line.endswith("A...")
    assert len(line) == 100
    assert terminal._cut("b \t b") == "b b"  # pyright: ignore[reportPrivateUsage]
