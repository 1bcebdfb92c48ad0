"""Bodies that are no requests are refused by the endpoint, those of `openai`'s client are not."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest
from jinja2 import TemplateError
from openai import OpenAI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tuner.completions import Bodies, answer_in_words

USER = {"role": "user", "content": "Where is my order?"}
CHAT: dict[str, Any] = {"model": "lora", "messages": [USER]}
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"order": 5}'}}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


@pytest.fixture
def passed() -> list[bytes]:
    return []


@pytest.fixture
def visitor(passed: list[bytes]) -> TestClient:
    """Asks a stand-in for the engine, which notes what it is sent and fails as engines do."""
    failures = {
        "roles": TemplateError("roles must alternate"),
        "bias": ValueError("no such token"),
        "deep": RecursionError("too deep"),
        "field": HTTPException(422, "Unexpected fields: {'x'}"),
        "other": HTTPException(404, "there is no such model"),
        "broken": RuntimeError("out of memory"),
    }

    async def answer(request: Request) -> JSONResponse:
        passed.append(await request.body())
        if failure := failures.get(json.loads(passed[-1]).get("model")):
            raise failure
        return JSONResponse({"id": "1", "choices": [], "object": "chat.completion"})

    paths = ("/v1/chat/completions", "/v1/completions")
    app = Starlette(routes=[Route(path, answer, methods=["POST"]) for path in paths])
    answer_in_words(app)
    return TestClient(Bodies(app), raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "JSON"),
        (b'{"\\udfff": 1, "messages": [{"role": "user", "content": "x"}]}', "JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}', "temperature"),
        ({}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [None]}, "messages.0"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [USER | {"role": 5}]}, "messages.0.role"),
        ({"messages": [USER | {"content": 5}]}, "messages.0.content"),
        ({"messages": [USER | {"content": [{"type": "text"}]}]}, "messages.0.content"),
        ({"messages": [USER | {"content": [{"type": "image_url"}]}]}, "'text'"),
        ({"messages": [USER | {"tool_calls": 5}]}, "messages.0.tool_calls"),
        ({"messages": [USER | {"tool_calls": [{"function": {}}]}]}, "messages.0.tool_calls.0"),
        (CHAT | {"model": {}}, "model"),
        (CHAT | {"max_tokens": -5}, "max_tokens"),
        (CHAT | {"max_tokens": 10**30}, "max_tokens"),
        (CHAT | {"max_completion_tokens": "many"}, "max_completion_tokens"),
        (CHAT | {"temperature": -1}, "temperature"),
        (CHAT | {"top_p": [1]}, "top_p"),
        (CHAT | {"frequency_penalty": -1}, "frequency_penalty"),
        (CHAT | {"seed": 2**70}, "seed"),
        (CHAT | {"seed": 1.5}, "seed"),
        (CHAT | {"stop": []}, "stop"),
        (CHAT | {"stop": ""}, "stop"),
        (CHAT | {"stop": ["x"] * 5}, "at most 4"),
        (CHAT | {"stop": "x" * 1000}, "stop"),
        (CHAT | {"stream": "yes"}, "stream"),
        (CHAT | {"tools": 5}, "tools"),
        (CHAT | {"tools": [{}]}, "tools.0"),
        (CHAT | {"logit_bias": [1]}, "logit_bias"),
        (CHAT | {"generation_config": "{"}, "generation_config: not taken here"),
        (CHAT | {"chat_template_kwargs": None}, "chat_template_kwargs: not taken here"),
    ],
)
def test_what_is_no_request_is_refused(
    body: Any, where: str, visitor: TestClient, passed: list[bytes]
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = visitor.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert where in error["message"]
    assert len(error["message"]) <= 400
    assert not passed


TEXT = {"prompt": "x"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "prompt:"),
        ({"prompt": ""}, "prompt:"),
        ({"prompt": ["x"]}, "prompt:"),
        (TEXT | {"suffix": 1}, "suffix:"),
        (TEXT | {"logit_bias": {"5": None}}, "logit_bias.5:"),
    ],
)
def test_what_is_no_request_for_a_text_is_refused(
    body: Any, where: str, visitor: TestClient
) -> None:
    answer = visitor.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(where)


@pytest.mark.parametrize("other", [{"messages": 5}, {"messages": [1]}, {"messages": [USER, {}]}])
def test_fields_of_the_other_interface_are_let_alone(
    other: Any, visitor: TestClient, passed: list[bytes]
) -> None:
    assert visitor.post("/v1/completions", json=TEXT | other).status_code == 200
    assert list(map(json.loads, passed)) == [TEXT | other]
    assert visitor.post("/v1/chat/completions", json=CHAT | {"prompt": {}}).status_code == 200


def test_requests_of_the_openai_client_pass_unchanged(
    visitor: TestClient, passed: list[bytes]
) -> None:
    sent: list[bytes] = []

    def send(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        answer = visitor.post(request.url.path, content=request.content)
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

    client = OpenAI(
        base_url="http://engine/v1",
        api_key="none",
        http_client=httpx.Client(transport=httpx.MockTransport(send)),
    )
    said = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    said += [{"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "here"}]}]
    full: Any = {"max_completion_tokens": 5, "temperature": 1, "top_p": 0.5, "seed": -1, "n": 1}
    full |= {"stop": ["a", "b"], "logit_bias": {"5": -100}, "tools": [TOOL], "user": "Ann"}
    full |= {"frequency_penalty": 2, "presence_penalty": -2, "stream_options": None}
    chat: Any = client.chat.completions
    chat.create(**CHAT)
    chat.create(**CHAT | {"messages": said}, **full)
    chat.create(**CHAT, stop="x", max_tokens=1, temperature=None, stream=True)
    client.completions.create(model="lora", prompt="Once", suffix="end", max_tokens=5, stop=None)
    assert len(sent) == 4
    assert list(map(json.loads, passed)) == list(map(json.loads, sent))


@pytest.mark.parametrize("calls", [[], None])
def test_the_engine_hears_of_no_calls_where_there_are_none(
    calls: Any, visitor: TestClient, passed: list[bytes]
) -> None:
    """It leaves out the text of a message that has the key, and takes no whole number as a bias."""
    body = CHAT | {"messages": [USER | {"tool_calls": calls}], "logit_bias": {"5": -100}}
    assert visitor.post("/v1/chat/completions", json=body).status_code == 200
    (heard,) = map(json.loads, passed)
    assert heard["messages"] == [USER]
    assert isinstance(heard["logit_bias"]["5"], float)


def test_a_rewritten_body_has_its_own_length(visitor: TestClient, passed: list[bytes]) -> None:
    lengths: list[int] = []
    app = cast("Any", visitor.app)
    engine = app.app

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        lengths.append(int(dict(scope["headers"])[b"content-length"]))
        await engine(scope, receive, send)

    app.app = measured
    assert visitor.post("/v1/chat/completions", json=CHAT | {"logit_bias": {"5": 1}}).is_success
    assert lengths == [len(passed[0])]


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("roles", 400, "roles must alternate"),
        ("bias", 400, "no such token"),
        ("deep", 400, "too deep"),
        ("field", 400, "Unexpected fields: {'x'}"),
        ("other", 404, "there is no such model"),
    ],
)
def test_the_engine_says_what_only_it_can_tell(
    model: str, status: int, message: str, visitor: TestClient
) -> None:
    answer = visitor.post("/v1/chat/completions", json=CHAT | {"model": model})
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == message


def test_what_is_the_servers_fault_is_said_to_be(visitor: TestClient) -> None:
    assert (
        visitor.post("/v1/completions", json={"model": "broken", "prompt": "x"}).status_code == 500
    )
