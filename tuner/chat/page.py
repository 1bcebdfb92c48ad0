"""A chat on a page: one question, and the answers of all systems beside each other."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tuner.chat.settings import Settings
from tuner.errors import UserError
from tuner.server import Guard, Password
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from starlette.types import ASGIApp

    from tuner.chat.history import History
    from tuner.chat.talk import Talk, Turn

# Gradio's own files alone; its page needs inline scripts. Replies are shown as plain text.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; font-src 'self' data:; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]  # Gradio's own would come from elsewhere
FIXED = ["ui-monospace", "monospace"]
SYSTEM = "System prompt (empty: the run's own)"


class Visit:
    """The conversation of one person who has opened the page.

    Args:
        talk: the conversation.
    """

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.forget()

    def forget(self) -> None:
        """Begin anew; a reply that is being written ends."""
        self.talk.reset()
        self.stopped = True
        # What each system's side of the page shows, as Gradio has it.
        self.shown: dict[str, list[dict[str, str]]] = {name: [] for name in self.talk.names}

    def answer(
        self, text: str, settings: Settings, system: str, history: History
    ) -> Generator[None]:
        """Let all systems answer; after each token, `shown` has it.

        Args:
            text: the question.
            settings: how replies are drawn.
            system: the system prompt; empty for that of the run's rendering.
            history: keeps the turn.

        Raises:
            UserError: the question or the system prompt does not fit.
        """
        talk, self.stopped = self.talk, False
        talk.settings = settings
        talk.instruct(system)
        turn = talk.ask(text)
        for name in talk.names:
            self.shown[name].append(_said("user", turn.message.content))
        yield
        try:
            for name in talk.names:
                if not self.stopped:
                    yield from self._reply(turn, name)
        finally:
            history.answered(turn)

    def _reply(self, turn: Turn, name: str) -> Generator[None]:
        side = self.shown[name]
        side.append(_said("assistant", "…"))
        with closing(self.talk.reply(turn, name)) as saids:
            for said in saids:
                side[-1] = _said("assistant", said.text or "…")
                yield
                if self.stopped:
                    break
        said, forgotten = turn.said[name], turn.forgotten[name]
        remarks = [said.remark, f"(without {forgotten} older turns)" if forgotten else ""]
        side[-1] = _said("assistant", "\n\n".join(filter(None, (said.text, *remarks))))
        yield


def build_app(
    begin: Callable[[], Talk], history: History, host: str, password: str | None
) -> ASGIApp:
    """The page, for people who each have a conversation of their own.

    Args:
        begin: a new conversation.
        history: keeps all turns.
        host: name or address that the server listens on.
        password: what people have to know; null where nobody but this machine's users can come.

    Raises:
        UserError: Gradio is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # is read when it is imported
    try:
        import gradio
        from fastapi import FastAPI
    except ImportError as error:
        raise UserError("--web needs Gradio, which is missing: pip install 'tuner[web]'") from error
    app = FastAPI(openapi_url=None)
    gradio.mount_gradio_app(
        app,
        _page(begin, history),
        path="/",
        footer_links=[],
        ssr_mode=False,
        show_error=True,
        max_file_size=1,  # byte; nothing is to be uploaded
        theme=gradio.themes.Base(font=FONTS, font_mono=FIXED),
    )
    guarded = Guard(app, host, POLICY)
    return guarded if password is None else Password(guarded, password)


def _page(begin: Callable[[], Talk], history: History) -> Any:
    import gradio

    talk = begin()
    with gradio.Blocks(title=f"Chat with {talk.names[-1]}", analytics_enabled=False) as page:
        visit = gradio.State()
        with gradio.Row():
            sides = [
                gradio.Chatbot(label=name, render_markdown=False, buttons=["copy"], height="60vh")
                for name in talk.names
            ]
        question = gradio.Textbox(label="Message", lines=2, max_lines=8, autofocus=True)
        with gradio.Row():
            send = gradio.Button("Send", variant="primary")
            stop = gradio.Button("Stop")
            forget = gradio.Button("New conversation")
        with gradio.Accordion("Settings", open=False):
            system = gradio.Textbox(talk.system or "", label=SYSTEM, lines=2)
            with gradio.Row():
                drawn = [
                    gradio.Number(
                        value, label=name, precision=0 if isinstance(value, int) else None
                    )
                    for name, value in asdict(talk.settings).items()
                ]

    def come() -> Visit:
        return Visit(begin())

    def answer(text: str, here: Visit, instruction: str, *values: Any) -> Generator[Any]:
        try:
            settings = Settings(*values)
            for _ in here.answer(text, settings, instruction, history):
                yield "", *here.shown.values()
        except UserError as error:
            raise gradio.Error(str(error), title="", print_exception=False) from error

    def halt(here: Visit) -> None:
        here.stopped = True

    def begin_anew(here: Visit) -> list[Any]:
        here.forget()
        return list(here.shown.values())

    private: Any = {"api_visibility": "private"}
    with page:
        page.load(come, outputs=visit, **private)
        asked = [question, visit, system, *drawn]
        gradio.on([send.click, question.submit], answer, asked, [question, *sides], **private)
        stop.click(halt, visit, queue=False, **private)
        forget.click(begin_anew, visit, sides, queue=False, **private)
    return page


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": visible(text)}
