"""The page's server: blind, closed to other pages; every click is stored before it is confirmed."""

from __future__ import annotations

import http.client
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from comparisons import HOSTILE, SYSTEMS, Server, begin, start_server, write_comparison

from tuner.rating.items import arrange
from tuner.rating.store import FILE
from tuner.rating.study import RUBRIC

SCORES = [(letter, criterion) for letter in "AB" for criterion in range(len(RUBRIC) + 1)]


class Tags(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_no_response_tells_who_wrote_what(tmp_path: Path, serve: Callable[..., Server]) -> None:
    folder = tmp_path / "compare" / "-".join(SYSTEMS)  # as eval.py names it
    begin(write_comparison(folder, count=2), repeats=1)
    server = serve(folder)
    post = {"rater": "Ann", "kind": "score", "answer": "A", "criterion": "0", "value": "3"}
    asked = [("/", None), ("/?rater=Ann", None), ("/done?rater=Ann", None), ("/nothere", None)]
    asked += [(f"/item/{n}?rater=Ann", None) for n in range(1, 5)]
    asked += [("/item/1", post), ("/item/1", post | {"value": "9"}), ("/item/1", {"rater": "Ann"})]
    asked += [("/static/page.js", None), ("/static/page.css", None)]
    for path, fields in asked:
        status, text, headers = server.ask(path, fields)
        everything = f"{status} {text} {headers}".lower()
        for secret in (*SYSTEMS, "quolbax", "zimfeld", "id0", "id1"):
            assert secret.lower() not in everything, path
    script = Path(__file__).parents[2] / "tuner" / "rating" / "static" / "page.js"
    assert server.ask("/static/page.js")[1] == script.read_text(encoding="utf-8")


def test_answers_stand_where_the_draw_puts_them_and_scores_reach_their_system(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    study, store = begin(write_comparison(tmp_path))
    server = serve(tmp_path)
    for number, item in enumerate(arrange(study, "Ann"), start=1):
        page = server.page(number, "Ann")
        shown = re.findall(r"text (\d+) of (\d+)", page)
        assert [SYSTEMS[int(place)] for _, place in shown] == list(item.systems)
        assert {f"id{n}" for n, _ in shown} == {item.id}
        assert server.score("Ann", number, "B", 4, 5) == 200
        choice = {"rater": "Ann", "kind": "preference", "pair": "AB", "value": "A"}
        assert server.ask(f"/item/{number}", choice)[0] == 200
        stored = {r.kind: r for r in store.ratings() if r.item == item.id}
        assert (stored["score"].system, stored["score"].value) == (item.systems[1], "5")
        assert stored["preference"].value == item.systems[0]
        assert (stored["preference"].system, stored["preference"].other) == SYSTEMS


def test_an_item_is_done_when_all_but_the_comment_is_there(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    begin(write_comparison(tmp_path, count=2))
    server = serve(tmp_path)
    assert server.ask("/?rater=Ann")[2]["location"] == "/item/1?rater=Ann"
    for number in (1, 2):
        for letter, criterion in SCORES:
            server.score("Ann", number, letter, criterion, 4)
        fields = {"rater": "Ann", "kind": "preference", "pair": "AB", "value": "tie"}
        _, text, _ = server.ask(f"/item/{number}", fields)
        assert f'"done":{number}' in text
        assert '"this":true' in text
    assert "Thank you" in server.ask("/done?rater=Ann")[1]
    assert "0 of 2" in server.ask("/done?rater=Ben")[1], "each rater has a progress of their own"
    page = server.page(1, "Ann")
    assert page.count('aria-pressed="true"') == len(SCORES) + 1


def test_without_a_script_the_forms_lead_back(tmp_path: Path, serve: Callable[..., Server]) -> None:
    _, store = begin(write_comparison(tmp_path))
    server = serve(tmp_path)
    fields = {"rater": "Ann", "kind": "comment", "value": "two\r\nlines", "row": "comment"}
    status, _, headers = server.ask("/item/1", fields, Accept="text/html")
    assert (status, headers["location"]) == (303, "/item/1?rater=Ann#comment")
    assert [rating.value for rating in store.ratings()] == ["two\nlines"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"value": "0"}, 400),
        ({"value": "6"}, 400),
        ({"value": "4.5"}, 400),
        ({"value": ""}, 400),
        ({"answer": "C"}, 400),
        ({"answer": "AB"}, 400),
        ({"answer": ""}, 400),
        ({"criterion": "-1"}, 400),
        ({"criterion": "99"}, 400),
        ({"criterion": "tone"}, 400),
        ({"rater": ""}, 400),
        ({"rater": "x" * 61}, 400),
        ({"kind": "study"}, 400),
        ({"kind": "preference", "pair": "BA", "value": "A"}, 400),
        ({"kind": "preference", "pair": "AB", "value": "C"}, 400),
        ({"kind": "preference", "pair": "A", "value": "A"}, 400),
        ({"kind": "comment", "value": "x" * 5001}, 400),
        ({"kind": "comment", "value": "x" * 200_000}, 413),
    ],
)
def test_what_is_not_of_the_form_is_refused(
    fields: dict[str, str], status: int, one_server: tuple[Server, Any]
) -> None:
    server, store = one_server
    before = len(store.ratings())
    good = {"rater": "Ann", "kind": "score", "answer": "A", "criterion": "0", "value": "3"}
    found, text, _ = server.ask("/item/1", good | fields)
    assert found == status, text
    if status != 200:
        assert len(store.ratings()) == before
    assert server.ask("/item/7", good)[0] == 400
    for number in ("0", "-1", "x", "9" * 5000, "\u0661"):  # the last one is a digit, in Arabic
        assert server.ask(f"/item/{quote(number)}", good)[0] == 400
    assert server.ask("/item/1", b"rater=%ff&kind=score")[0] == 400
    assert server.ask("/item/1", b"&".join([b"a=1"] * 1000))[0] == 400


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rated")
    _, store = begin(write_comparison(folder))
    server = start_server(folder)
    yield server, store
    server.stop()


def test_other_pages_can_neither_read_nor_write(one_server: tuple[Server, Any]) -> None:
    server, store = one_server
    fields = {"rater": "Mallory", "kind": "comment", "value": "from elsewhere"}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": f"https://{server.host}"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
    ):
        status, text, _ = server.ask("/item/1", fields, **headers)
        assert status == 403, headers
        assert "refused" in text
    port = server.host.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        assert server.ask("/item/1?rater=Ann", Host=host or " ")[0] == 403
    assert server.ask("/item/1?rater=Ann", Host=f"localhost:{port}")[0] == 200
    assert store.ratings("Mallory") == []


def test_the_policy_allows_nothing_from_elsewhere(one_server: tuple[Server, Any]) -> None:
    _, page, headers = one_server[0].ask("/item/1?rater=Ann")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"(?:src|href|action)=\"(?!/|data:,)", page)
    assert not re.search(r"<style|<script(?! src)|style=|\son\w+=", page)


def test_hostile_texts_stay_texts(tmp_path: Path, serve: Callable[..., Server]) -> None:
    rubric = {text[:300]: text[:300] for text in HOSTILE[:6]}
    begin(
        write_comparison(tmp_path / "plain", count=len(HOSTILE), rubric=dict.fromkeys("abcdef", ""))
    )
    begin(write_comparison(tmp_path / "hostile", texts=HOSTILE, rubric=rubric))
    typed = [text for text in HOSTILE if "\ud800" not in text]  # no browser sends half a pair
    raters = [text[:20] for text in typed]
    servers = [serve(tmp_path / name) for name in ("plain", "hostile")]
    for rater, comment in zip(raters, typed, strict=True):
        servers[1].ask("/item/1", {"rater": rater, "kind": "comment", "value": comment[:5000]})
    shown = [(number, raters[0]) for number in range(2, len(HOSTILE) + 1)]
    for number, rater in [*shown, *((1, rater) for rater in raters)]:
        page = servers[1].page(number, rater)
        tags = [(tag, sorted(attributes)) for tag, attributes in Tags(page).found]
        plain = Tags(servers[0].page(number, "Ann")).found
        assert tags == [(tag, sorted(attributes)) for tag, attributes in plain]
        answers = page[: page.index("<textarea")]
        assert not set("\x00\x07\x1b\u202e\u2066\u200e") & set(answers)
    assert len({rating.rater for rating in begin(tmp_path / "hostile")[1].ratings()}) == len(raters)


def test_what_was_confirmed_survives_a_kill_in_mid_click(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    _, store = begin(write_comparison(tmp_path, count=40))
    server = serve(tmp_path)
    confirmed: dict[str, dict[tuple[int, str, int], int]] = {"Ann": {}, "Ben": {}}
    enough = {rater: threading.Event() for rater in confirmed}

    def click(rater: str) -> None:
        clicks = ((n, letter, criterion) for n in range(1, 41) for letter, criterion in SCORES)
        for count, (number, letter, criterion) in enumerate(clicks):
            value = (number + criterion) % 5 + 1
            try:
                status = server.score(rater, number, letter, criterion, value)
            except (OSError, http.client.HTTPException):  # killed
                return
            assert status == 200
            confirmed[rater][number, letter, criterion] = value
            if count >= 20:
                enough[rater].set()

    raters = [threading.Thread(target=click, args=[rater]) for rater in confirmed]
    for rater in raters:
        rater.start()
    assert all(one.wait(30) for one in enough.values())
    os.kill(server.process.pid, signal.SIGKILL)
    for rater in raters:
        rater.join(30)
    server.process.wait()
    study = store.study()
    assert study
    for rater, clicks in confirmed.items():
        items = arrange(study, rater)
        stored = {
            (items.index(item) + 1, letter, study.criteria.index(r.criterion)): int(r.value)
            for r in store.ratings(rater)
            for item in items
            if item.id == r.item
            for letter in "AB"
            if item.system(letter) == r.system
        }
        assert len(clicks) > 20
        assert clicks.items() <= stored.items()
        assert len(stored) <= len(clicks) + 1, "the one that was on its way"
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = serve(tmp_path)
    assert again.page(1, "Ann").count('aria-pressed="true"') == len(SCORES)
    assert again.score("Ann", 40, "A", 0, 1) == 200


def test_a_disk_that_fails_is_said_and_not_confirmed(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    _, store = begin(write_comparison(tmp_path))
    server = serve(tmp_path)
    store.path.rename(tmp_path / "away")
    fields = {"rater": "Ann", "kind": "score", "answer": "A", "criterion": "0", "value": "3"}
    status, text, _ = server.ask("/item/1", fields)
    assert status == 503
    assert "unable to open" in text
    (tmp_path / "away").rename(store.path)
    assert server.ask("/item/1", fields)[0] == 200
