"""The page: who may ask, what is shown, and that nothing comes from elsewhere or goes there."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from browsing import until
from chatting import Page
from comparisons import HOSTILE
from speakers import Scripted
from starlette.testclient import TestClient

from tuner.chat.history import History
from tuner.chat.page import POLICY, Visit, build_app
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.visible import visible

PATIENCE = 20  # seconds
DRAWN = (0, 1, 256, 12345)  # temperature, top_p, max_new_tokens, seed


@dataclass
class Visitor:
    """A browser without a screen."""

    page: Page
    session: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        origin = self.page.url.rstrip("/")
        self.client = httpx.Client(
            base_url=origin, headers={"Origin": origin}, timeout=PATIENCE, trust_env=False
        )

    def press(self, button: str, *data: Any) -> str:
        """Clicks; returns what the server calls that."""
        # Functions stand in the order of `_page`.
        call = {"data": data, "fn_index": ["Send", "Stop", "New conversation"].index(button)}
        call["session_hash"] = self.session
        joined = self.client.post("/gradio_api/queue/join", json=call)
        assert joined.status_code == 200, joined.text
        return joined.json()["event_id"]

    def follow(self, event: str) -> Iterator[dict[str, Any]]:
        """What the server says of a click, up to its end."""
        end = time.monotonic() + PATIENCE
        asked = {"session_hash": self.session}
        with self.client.stream("GET", "/gradio_api/queue/data", params=asked) as lines:
            for line in filter(None, lines.iter_lines()):
                assert time.monotonic() < end, "waited in vain"
                said = json.loads(line.removeprefix("data: "))
                if said.get("event_id") == event:
                    yield said
                    if said["msg"] == "process_completed":
                        return

    def ask(self, text: str, system: str = "", drawn: tuple[Any, ...] = DRAWN) -> Any:
        """The texts on both sides when all is said, or what is wrong with the question."""
        *saids, last = self.follow(self.press("Send", text, None, system, *drawn))
        assert last["success"]
        wrong = [said["log"] for said in saids if said["msg"] == "log"]
        return wrong[0] if wrong else [texts(side) for side in last["output"]["data"][2:]]


def texts(side: list[dict[str, Any]]) -> list[str]:
    assert [message["role"] for message in side] == ["user", "assistant"] * (len(side) // 2)
    return [content["text"] for message in side for content in message["content"]]


def test_answers_stand_beside_each_other_and_go_on(page: Page) -> None:
    visitor = Visitor(page, "one")
    assert visitor.ask("hi") == [["hi", "I am the base"], ["hi", "I am the run"]]
    base, run = visitor.ask("and?", "Be brief.", (0.5, 0.9, 2, 3))
    assert base[2:] == ["and?", "I am\n\n(cut at max_new_tokens 2)"]
    assert run[:2] == ["hi", "I am the run"]
    assert page.speaker.asked[2:] == [
        ("base", "S:Be brief. U:hi A:I am the base U:and?"),
        ("lora", "S:Be brief. U:hi A:I am the run U:and?"),
    ]
    ((_, row),) = page.transcripts()
    assert (row["temperature"], row["top_p"], row["max_new_tokens"], row["seed"]) == (
        0.5,
        0.9,
        2,
        3,
    )


def test_each_visitor_has_a_conversation_of_their_own(page: Page) -> None:
    ann, ben = Visitor(page, "ann"), Visitor(page, "ben")
    ann.ask("I am Ann")
    ben.ask("I am Ben")
    assert "Ben" not in str(ann.ask("who am I?"))
    assert ("lora", "U:I am Ann A:I am the run U:who am I?") in page.speaker.asked
    kept = [[row["message"] for row in rows] for rows in page.transcripts()]
    assert sorted(kept) == [["I am Ann", "who am I?"], ["I am Ben"]]


def test_texts_stay_texts(page: Page) -> None:
    code = "def f(x):\n    if x < 1 & 2:\n        return $$x$$ **b** <b>x</b>\n\n    a"
    for text in (code, *(one[:200].strip() for one in HOSTILE if "\ud800" not in one)):
        page.speaker.replies["lora"] = text
        _, side = Visitor(page, f"hostile {hash(text)}").ask(text)
        for shown in side:
            assert not set("<>\"'\x1b\x00\u202e") & set(shown), "Gradio takes it for HTML"
            assert html.unescape(shown) == visible(text)


@pytest.mark.parametrize("button", ["Stop", "New conversation"])
def test_a_reply_is_stopped_and_the_other_is_not_begun(page: Page, button: str) -> None:
    page.speaker.may.clear()
    visitor = Visitor(page, button)
    saying = visitor.follow(visitor.press("Send", "hi", None, "", *DRAWN))
    for said in saying:
        if said["msg"] == "process_generating" and page.speaker.asked:
            visitor.press(button, None)
            break
    *_, last = saying
    sides = [texts(side) for side in last["output"]["data"][2:]]
    assert [name for name, _ in page.speaker.asked] == ["base"]
    assert page.speaker.stopped == 1
    page.speaker.may.set()
    if button == "Stop":
        assert sides == [["hi", "I\n\n(stopped)"], ["hi", "(stopped)"]]
        visitor.ask("go on")
        assert page.speaker.asked[1:] == [("base", "U:hi A:I U:go on"), ("lora", "U:go on")]
    else:
        assert sides == [[], []]
        assert visitor.ask("go on") == [["go on", "I am the base"], ["go on", "I am the run"]]


def test_who_leaves_is_not_answered_any_more(page: Page) -> None:
    page.speaker.may.clear()
    visitor = Visitor(page, "leaves")
    for _ in visitor.follow(visitor.press("Send", "hi", None, "", *DRAWN)):
        if page.speaker.asked:
            break  # closes the connection
    until(lambda: page.speaker.stopped == 1)


@pytest.mark.parametrize(
    ("text", "drawn", "message"),
    [
        (" ", DRAWN, "the message is empty"),
        ("hi", (-1, 1, 9, 0), "temperature: -1.0 is not allowed"),
        ("hi", (None, 1, 9, 0), "temperature: &#x27;None&#x27; is not allowed"),
        ("hi", (0, 1, 0, 0), "max_new_tokens: 0 is not allowed"),
    ],
)
def test_mistakes_are_said_and_nothing_is_asked(
    text: str, drawn: tuple[Any, ...], message: str, page: Page
) -> None:
    assert message in Visitor(page, message).ask(text, drawn=drawn)
    assert page.speaker.asked == []


def test_there_is_no_way_in_but_the_page(page: Page) -> None:
    client = Visitor(page, "doors").client
    assert client.get("/").status_code == 200
    for path in (
        "/docs", "/openapi.json", "/config", "/monitoring", "/gradio_api/info", "/gradio_api/runs",
        "/gradio_api/openapi.json", "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://x/",
        "/gradio_api/queue/status", "/login", "/%2e%2e/gradio_api/info", "//gradio_api/info",
    ):  # fmt: skip
        assert client.get(path).status_code == 404, path
    for path in ("upload", "run/answer", "call/answer", "component_server", "api/answer", "cancel"):
        assert client.post(f"/gradio_api/{path}", json={}).status_code == 404, path
    assert client.get("/static/../../../../etc/passwd").status_code in (403, 404)
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": ""}):
        answer = client.post("/gradio_api/queue/join", json={}, headers=headers)
        assert (answer.status_code, "refused" in answer.text) == (403, True)
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_the_page_names_nothing_that_is_elsewhere(page: Page) -> None:
    answer = Visitor(page, "names").client.get("/")
    assert answer.headers["content-security-policy"] == POLICY
    assert "access-control-allow-origin" not in answer.headers
    assert not re.search(r"<(?!meta)[^>]*(?:src|href)=[\"'](?:https?:)?//", answer.text)
    found = re.search(r"window.gradio_config = (\{.*?\});</script>", answer.text)
    assert found
    config = json.loads(found[1])
    assert config["stylesheets"] == []
    assert config["analytics_enabled"] is False
    assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}
    style = Visitor(page, "style").client.get("/theme.css").text
    assert "font" in style
    assert not re.search(r"@import|url\((?!['\"]data:)", style)


def test_others_need_the_password() -> None:
    def begin() -> Visit:
        speaking: Any = Scripted({"lora": "x"})
        return Visit(Talk(speaking, Settings()), History(None, "lora"))

    app = build_app(begin, "0.0.0.0", "secret")
    client = TestClient(app, base_url="http://127.0.0.1")
    for path in ("/", "/theme.css", "/gradio_api/queue/data?session_hash=x"):
        assert client.get(path).status_code == 401
    for wrong in ("", "wrong", "secre", "secrets", "SECRET"):
        assert client.get("/", auth=("me", wrong)).status_code == 401
    assert "Chat with lora" in client.get("/", auth=("me", "secret")).text
