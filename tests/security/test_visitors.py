"""Pages and the endpoint: hostile, foreign, oversized, slow and wrong requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from comparisons import SYSTEMS, begin, write_comparison
from speakers import Scripted
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from transformers.cli.serving import server as serving
from transformers.cli.serving import utils as serving_utils

from tuner import engine, guards
from tuner.chat.history import History
from tuner.chat.page import LARGEST_POST as CHAT_POST
from tuner.chat.page import Visit
from tuner.chat.page import build_app as chat_app
from tuner.chat.settings import Settings
from tuner.chat.talk import Talk
from tuner.connection import Connection
from tuner.engine import LARGEST_POST as ENGINE_POST
from tuner.rating.app import LARGEST_POST as RATING_POST
from tuner.rating.app import build_app as rating_app
from tuner.rating.store import Store
from tuner.rating.study import read_answers
from tuner.server import Server, listen, settings
from tuner.tools.rate import main as rate

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
FOREIGN = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)
PLACES = ("/nothere", "/%00", "/../../etc/passwd", "//evil.example/x", "/" + "a" * 9000)
REBOUND = (
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example:80",
    "localhost#.evil.example",
    "evil.example\\@localhost",
    "evil@127.0.0.1",
    "127.0.0.1:80:80",
    "127.0.0.1:port",
    "",
)


def rating(folder: Path, password: str | None = None) -> Any:
    begin(write_comparison(folder))
    store = Store(folder)
    study = store.study()
    assert study
    return rating_app(study, read_answers(folder), store, "127.0.0.1", password)


def chat() -> Any:
    speaking: Any = Scripted({"lora": "x"})

    def begin() -> Visit:
        return Visit(Talk(speaking, Settings()), History(None, "lora"))

    return chat_app(begin, "127.0.0.1", None)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guard of the endpoint around a stand-in that has the engine's paths."""

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "bytes": len(await request.body())})

    def build(*_: object) -> Starlette:
        paths = ("/load_model", "/reset", "/docs", "/openapi.json", "/v1/responses", *engine.PATHS)
        every = list(METHODS)
        return Starlette(routes=[Route(path, answer, methods=every) for path in paths])

    monkeypatch.setattr(serving, "build_server", build)
    monkeypatch.setattr(uvicorn, "Config", uvicorn.Config)
    engine.guard("127.0.0.1")
    return serving.build_server(*[None] * 7)  # pyright: ignore


@pytest.fixture(params=["rating", "chat", "endpoint"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str, int]:
    """An application, a path that takes posts, and the bytes that these may have."""
    if request.param == "rating":
        return rating(tmp_path), "/item/1", RATING_POST
    if request.param == "chat":
        return chat(), "/gradio_api/queue/join", CHAT_POST
    return request.getfixturevalue("endpoint"), "/v1/chat/completions", ENGINE_POST


def client(app: Any, host: str = "127.0.0.1:80") -> TestClient:
    return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)


def test_requests_of_other_pages_are_refused(site: tuple[Any, str, int]) -> None:
    app, path, _ = site
    visitor = client(app)
    for method in METHODS[2:]:
        for headers in FOREIGN:
            answer = visitor.request(method, path, headers=headers, content=b"{}")
            assert (answer.status_code, answer.text[:7]) == (403, "refused"), (method, headers)
            assert "access-control-allow-origin" not in answer.headers
    for host in REBOUND:
        for method in ("GET", "POST"):
            answer = visitor.request(
                method, path, headers={"Host": host, "Origin": f"http://{host}"}
            )
            assert answer.status_code == 403, host


def test_wrong_methods_and_paths_are_answered(site: tuple[Any, str, int]) -> None:
    app, path, _ = site
    visitor = client(app)
    own = {"Origin": "http://127.0.0.1:80", "Host": "127.0.0.1:80"}
    for method in METHODS:
        for place in (path, *PLACES):
            answer = visitor.request(method, place, headers=own)
            assert answer.status_code < 500, (method, place)
            assert "root:" not in answer.text


def test_long_bodies_are_refused_before_they_are_kept(site: tuple[Any, str, int]) -> None:
    app, path, largest = site
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * (largest // 4)

    async def ask() -> list[int]:
        parts = endless()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": next(parts), "more_body": True}

        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        headers = [(b"host", b"127.0.0.1"), (b"origin", b"http://127.0.0.1")]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
        scope |= {"query_string": b"", "headers": headers, "scheme": "http", "root_path": ""}
        scope |= {"http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9)}
        await app(scope, receive, send)
        return statuses

    assert asyncio.run(ask()) == [413]
    assert taken <= 5, "the rest is not read"
    answer = client(app).post(
        path, content=b"x" * largest, headers={"Origin": "http://127.0.0.1:80"}
    )
    assert answer.status_code != 413


def test_the_endpoint_has_the_doors_of_its_clients_alone(endpoint: Any) -> None:
    visitor = client(endpoint)
    for path in ("/load_model", "/reset", "/docs", "/openapi.json", "/v1/responses"):
        assert visitor.post(path, json={"model": "evil/model"}).status_code == 404, path
    asked = b'{"prompt": "x"}'
    said = visitor.post("/v1/completions", content=asked)  # as a program asks
    assert said.json() == {"path": "/v1/completions", "bytes": len(asked)}
    own = {"Origin": "http://localhost:8000", "Host": "localhost:8000"}
    assert visitor.post("/v1/completions", content=asked, headers=own).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guards, "PATIENCE", 0.2)
    with running(rating(tmp_path)) as port:
        own = f"127.0.0.1:{port}"
        head = f"POST /item/1 HTTP/1.1\r\nHost: {own}\r\nOrigin: http://{own}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
            slow.sendall(f"{head}Content-Length: 50\r\n\r\nrater=".encode())
            assert b"408" in slow.recv(100)


@contextlib.contextmanager
def running(app: Any) -> Iterator[int]:
    taken = listen("127.0.0.1", 0)
    server = Server(settings(app))
    thread = threading.Thread(target=server.run, args=[[taken]])
    thread.start()
    yield taken.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("count", [40, pytest.param(20_000, marks=pytest.mark.soak)])
def test_broken_and_slow_requests_leave_the_page_as_it_was(
    count: int, tmp_path: Path, figures: Callable[..., None]
) -> None:
    draw, failed, refused = random.Random(5), 0, 0
    with running(rating(tmp_path)) as port:
        good = f"GET /item/1?rater=Ann HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for one in held:  # heads that never end
            one.sendall(good[: draw.randrange(len(good) - 2)])
        for _ in range(count):
            broken = bytearray(good)
            for _ in range(draw.randint(1, 6)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            with socket.create_connection(("127.0.0.1", port), timeout=20) as visitor:
                visitor.sendall(bytes(broken))
                visitor.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    status = visitor.recv(64)[9:12]
                    failed += status.startswith(b"5")
                    refused += status.startswith(b"4")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as visitor:
            visitor.sendall(good)
            assert visitor.recv(64).startswith(b"HTTP/1.1 200")
        for one in held:
            one.close()
    figures(
        "security", "requests to the rating page with bytes changed, beside 50 that never end",
        count, refused=refused, server_errors=failed,
    )  # fmt: skip
    assert refused > count / 4
    assert failed == 0
    assert Store(tmp_path).ratings() == []


def test_who_rates_from_elsewhere_needs_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[Any] = []

    def note(app: Any, taken: socket.socket) -> None:
        served.append(app)
        taken.close()

    monkeypatch.setattr("tuner.server.serve", note)
    write_comparison(tmp_path / "a")
    words: list[str] = []
    for host in ("0.0.0.0", "0.0.0.0", "127.0.0.1"):
        assert rate([str(tmp_path / "a"), f"--host={host}", "--port=0", "--no_browser"]) == 0
        said = capsys.readouterr()
        visitor = client(served[-1])
        if host == "127.0.0.1":
            assert "Password" not in said.out
            assert visitor.get("/item/1?rater=Ann").status_code == 200
            continue
        assert "not encrypted" in said.err
        words.append(said.out.splitlines()[1].split()[1])
        for path in ("/", "/item/1?rater=Ann", "/static/page.js", "/nothere"):
            assert visitor.get(path).status_code == 401
            for wrong in ("", "wrong", words[-1][:-1], f"{words[-1]}x", words[-1].swapcase()):
                assert visitor.get(path, auth=("any", wrong)).status_code == 401
            assert not any(name in visitor.get(path).text for name in SYSTEMS)
        assert visitor.get("/item/1?rater=Ann", auth=("any", words[-1])).status_code == 200
        login = base64.b64encode(f"any:{words[-1]}".encode()).decode()
        bearer = {"Authorization": f"Bearer {login}"}  # another scheme says another thing
        assert visitor.get("/item/1?rater=Ann", headers=bearer).status_code == 401
    assert words[0] != words[1]
    assert all(len(word) >= 20 for word in words)


def test_the_real_engine_makes_what_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine asks its module for the application when it starts, and hands it to uvicorn."""
    from transformers.cli.serve import Serve

    monkeypatch.setattr(serving, "build_server", serving.build_server)
    monkeypatch.setattr(serving_utils, "GenerateManager", serving_utils.GenerateManager)
    monkeypatch.setattr(uvicorn, "Config", uvicorn.Config)
    engine.guard("127.0.0.1")
    started: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self: started.append(self.config))
    Serve(force_model=None)
    assert started[0].http is Connection, "none waits for ever"
    assert started[0].backlog <= 256
    assert started[0].ws == "none", "no door of the guards is for them"
    visitor = client(started[0].app)
    assert visitor.get("/health").json() == {"status": "ok"}
    assert visitor.post("/reset").status_code == 404
    assert visitor.get("/health", headers={"Host": "evil.example"}).status_code == 403
    said = visitor.post("/v1/completions", json={"prompt": "x", "nothere": 1})
    assert said.status_code == 400
    assert "nothere" in said.json()["error"]["message"], "the engine's own words"
