"""A chat on a page: one question, and the answers of all systems beside each other."""

from __future__ import annotations

import html
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from tuner.chat.speaker import Said
from tuner.errors import UserError
from tuner.guards import Doors, Guard, Limit, Password
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from starlette.types import ASGIApp

    from tuner.chat.history import History
    from tuner.chat.talk import Talk, Turn

# Gradio's own files alone; its page needs inline scripts and styles.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; font-src 'self'; manifest-src 'self'; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)
# What the page asks for. Gradio's server has more doors, such as those for uploads and files.
PATHS = (
    "/assets/", "/static/", "/theme.css", "/manifest.json", "/favicon.ico",
    "/gradio_api/heartbeat/", "/gradio_api/queue/join", "/gradio_api/queue/data",
)  # fmt: skip
LARGEST_POST = 1024 * 1024  # bytes of a message with its settings, as Gradio sends them
WAITING = "…"
AT_ONCE = 20  # answers that are written or waited for; each takes a thread, of which there are 40
FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]  # Gradio's own would come from elsewhere
FIXED = ["ui-monospace", "monospace"]
STYLE = """
.said { height: 60vh !important; }
.said .message { white-space: normal; }
.said .message-content { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 700px) { .said { height: 36vh !important; } }
"""


class Visit:
    """The conversation of one person who has opened the page.

    Args:
        talk: the conversation.
        history: keeps its turns.
    """

    def __init__(self, talk: Talk, history: History) -> None:
        self.talk, self.history = talk, history
        self.forget()

    def forget(self) -> None:
        """Begin anew; a reply that is being written ends."""
        self.talk.reset()
        self.stopped = True
        # What each system's side of the page shows, as Gradio has it.
        self.shown: dict[str, list[dict[str, Any]]] = {name: [] for name in self.talk.names}

    def answer(self, text: str, system: str, settings: Sequence[object]) -> Generator[None]:
        """Let all systems answer; after each token, `shown` has it.

        Args:
            text: the question.
            system: the system prompt; empty for that of the run's rendering.
            settings: how replies are drawn, in the order of `Settings`.

        Raises:
            UserError: the question, the system prompt or a setting does not fit.
        """
        talk, sides = self.talk, self.shown
        names = asdict(talk.settings)
        pairs = (f"{name} {value}" for name, value in zip(names, settings, strict=True))
        talk.settings = talk.settings.changed(" ".join(pairs))
        talk.instruct(system)
        turn = talk.ask(text)
        self.stopped = False
        for side in sides.values():
            side += [_said("user", turn.message.content), _said("assistant", WAITING)]
        yield
        try:
            for name, side in sides.items():
                yield from self._reply(turn, name, side)
        finally:
            self.history.answered(turn)

    def _reply(self, turn: Turn, name: str, side: list[dict[str, Any]]) -> Generator[None]:
        said, forgotten = Said(), turn.forgotten[name]
        try:
            if not self.stopped:
                with closing(self.talk.reply(turn, name)) as saids:
                    for said in saids:
                        if self.stopped:
                            break
                        side[-1] = _said("assistant", said.text or WAITING)
                        yield
        finally:
            remarks = [said.remark, f"(without {forgotten} older turns)" if forgotten else ""]
            side[-1] = _said("assistant", "\n\n".join(filter(None, (said.text, *remarks))))
        yield


def build_app(begin: Callable[[], Visit], host: str, password: str | None) -> ASGIApp:
    """The page, for people who each have a conversation of their own.

    Args:
        begin: a new conversation.
        host: name or address that the server listens on.
        password: what people have to know; null where nobody but this machine's users can come.
    """
    import gradio
    from fastapi import FastAPI
    from gradio.themes import Base

    app = gradio.mount_gradio_app(
        # Where its parent cares for CORS, Gradio does not; its own would let other sites read.
        FastAPI(openapi_url=None, middleware=[Middleware(CORSMiddleware)]),
        _page(begin),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,  # what is no UserError is for the terminal
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=Base(font=FONTS, font_mono=FIXED),
        css=STYLE,
    )
    guarded = Guard(Limit(Doors(app, PATHS), LARGEST_POST), host, POLICY)
    return guarded if password is None else Password(guarded, password)


def _page(begin: Callable[[], Visit]) -> Any:
    import gradio

    talk = begin().talk
    with gradio.Blocks(title=f"Chat with {talk.names[-1]}", analytics_enabled=False) as page:
        visit = gradio.State()
        with gradio.Row():
            sides = [
                gradio.Chatbot(
                    label=name,
                    render_markdown=False,
                    latex_delimiters=[],
                    allow_tags=False,
                    buttons=[],
                    min_width=320,
                    elem_classes="said",
                )
                for name in talk.names
            ]
        question = gradio.Textbox(label="Message", max_lines=8, autofocus=True)
        with gradio.Row():
            send = gradio.Button("Send", variant="primary", min_width=80)
            stop = gradio.Button("Stop", min_width=80)
            forget = gradio.Button("New conversation", min_width=80)
        with gradio.Accordion("Settings", open=False):
            system = gradio.Textbox(
                talk.system or "", label="System prompt", placeholder="the run's own", lines=2
            )
            with gradio.Row():
                drawn = [
                    gradio.Number(value, label=name, precision=None if type(value) is float else 0)
                    for name, value in asdict(talk.settings).items()
                ]

        def answer(text: str, here: Visit | None, instruction: str, *drawn: Any) -> Generator[Any]:
            here = here or begin()
            typed: Any = ""  # is cleared once, as the next message may be typed meanwhile
            try:
                for _ in here.answer(text, instruction, drawn):
                    yield typed, here, *here.shown.values()
                    typed = gradio.skip()
            except UserError as error:
                # One that is raised would be written over the replies; Gradio takes it for HTML.
                gradio.Warning(html.escape(str(error)))
                yield gradio.skip(), here, *here.shown.values()

        def halt(here: Visit | None) -> None:
            if here:
                here.stopped = True

        def begin_anew(here: Visit | None) -> Any:
            if here:
                here.forget()
            return {side: [] for side in sides}

        quiet: Any = {"api_visibility": "private", "show_progress": "hidden"}
        gradio.on(
            [send.click, question.submit],
            answer,
            [question, visit, system, *drawn],
            [question, visit, *sides],
            concurrency_limit=AT_ONCE,
            **quiet,
        )
        stop.click(halt, visit, **quiet)
        # A side of the page has a button of its own to clear it.
        away = [forget.click, *(side.clear for side in sides)]
        gradio.on(away, begin_anew, visit, sides, **quiet)
    return page


def _said(role: str, text: str) -> dict[str, Any]:
    """A message for Gradio, which takes every text for HTML, and a bare one for indented code."""
    return {"role": role, "content": [{"type": "text", "text": html.escape(visible(text))}]}
