"""Connections that ask nothing: how long they last, how many may be, whom they disturb."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comparisons import begin, start_server, write_comparison

from tuner import connection
from tuner.server import Server, listen, settings

HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ENOUGH = threading.Event()  # ends the answers at /slowly


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, or, at /slowly, a word every tenth of a second for as long as wanted."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/slowly":
        while not ENOUGH.is_set():
            await send({"type": "http.response.body", "body": b"word ", "more_body": True})
            await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"end"})


class Running(Server):
    port: int


@contextlib.contextmanager
def running() -> Iterator[Running]:
    taken = listen("127.0.0.1", 0)
    server = Running(settings(app))
    server.port = taken.getsockname()[1]
    thread = threading.Thread(target=server.run, args=[[taken]])
    ENOUGH.clear()
    thread.start()
    try:
        yield server
    finally:
        ENOUGH.set()
        server.should_exit = True
        thread.join()


def connect(server: Running, said: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    one.sendall(said)
    return one


def gone(one: socket.socket) -> bool:
    """Whether the other side has hung up; waits for it."""
    try:
        return one.recv(1000) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"\r\n"])
def test_who_does_not_ask_is_hung_up_on(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly the head goes on; the first one of a connection, and the next."""
    monkeypatch.setattr(connection, "PATIENCE", 0.4)
    with running() as server, contextlib.ExitStack() as held:
        began = time.monotonic()
        slow = held.enter_context(connect(server, first))
        if first.endswith(b"\r\n\r\n"):
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            slow.sendall(HEAD)
        slow.settimeout(0.05)
        while time.monotonic() < began + 10:
            try:
                if slow.recv(1000) == b"":
                    break
            except TimeoutError:
                slow.sendall(b"x" if first else b"")
            except ConnectionError:
                break
        assert 0.2 < time.monotonic() - began < 5


def test_what_is_no_request_is_not_logged_without_end(caplog: pytest.LogCaptureFixture) -> None:
    with running() as server:
        for _ in range(3):
            with connect(server, b"\x16\x03\x01 nonsense\r\n\r\n") as one:
                assert one.recv(1000).startswith(b"HTTP/1.1 400")
    assert "Invalid HTTP" not in caplog.text


def test_a_body_that_nobody_waits_for_may_not_take_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.4)
    with running() as server:
        head = HEAD.replace(b"GET", b"POST") + b"Content-Length: 1000000\r\n\r\n"
        with connect(server, head) as slow:
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")
            for _ in range(100):
                time.sleep(0.05)
                try:
                    slow.sendall(b"x")
                except ConnectionError:
                    return
    raise AssertionError("it goes on and on")


def test_long_answers_and_pauses_between_requests_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 1.5)
    with running() as server:
        visitor = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        visitor.request("GET", "/slowly")
        threading.Timer(2, ENOUGH.set).start()
        assert visitor.getresponse().read().endswith(b"word end")
        own = visitor.sock
        time.sleep(2)
        visitor.request("GET", "/")
        assert visitor.getresponse().read() == b"end"
        assert visitor.sock is own, "the same connection"
        visitor.close()


def test_who_asks_is_served_beside_many_who_do_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "most", lambda: 20)
    with running() as server, contextlib.ExitStack() as held:
        reader = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        reader.request("GET", "/slowly")
        answer = reader.getresponse()
        browser = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        many: list[socket.socket] = []
        for _ in range(60):  # few at a time: some may be taken a moment after they came
            browser.request("GET", "/")
            assert browser.getresponse().read() == b"end", "who has just asked is not hung up on"
            many += [held.enter_context(connect(server, HEAD)) for _ in range(5)]
        browser.close()
        with connect(server, HEAD + b"\r\n") as visitor:
            assert visitor.recv(1000).startswith(b"HTTP/1.1 200")
        assert len(server.server_state.connections) <= 20
        assert all(gone(one) for one in many[:200]), "those who came first"
        ENOUGH.set()
        assert answer.read().endswith(b"end"), "who is being answered is not hung up on"
        reader.close()
        ENOUGH.clear()
        # Where all are busy, it is the new one that has to go.
        busy = [connect(server, HEAD.replace(b"/ ", b"/slowly ", 1) + b"\r\n") for _ in range(20)]
        for one in busy:
            held.enter_context(one)
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
        with connect(server) as late:
            assert gone(late)
    assert not caplog.records


@pytest.mark.soak
def test_connections_that_ask_nothing_leave_the_page_as_it_was(
    tmp_path: Path, figures: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    """More than there are files for, at a page as it is started."""
    count = connection.FILES + 1000
    begin(write_comparison(tmp_path))
    server, waits = start_server(tmp_path), []
    address = server.host.split(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * count, hard))  # for this end alone
    with contextlib.ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        held.callback(server.stop)
        opened: list[socket.socket] = []
        for number in range(count):
            one = socket.create_connection((address[0], int(address[1])), timeout=60)
            opened.append(held.enter_context(one))
            one.sendall(HEAD)
            if number % 500 == 499:
                began = time.monotonic()
                assert server.page(1, "Ann")
                waits.append(time.monotonic() - began)
        began = time.monotonic()
        assert all(gone(one) for one in opened)
        seconds = time.monotonic() - began
    assert seconds < connection.PATIENCE + 10
    assert max(waits) < 10
    assert capfd.readouterr().err == ""
    figures(
        "security", "connections to the rating page whose request never ends",
        count, longest_wait_for_the_page_s=round(max(waits), 1),
    )  # fmt: skip
