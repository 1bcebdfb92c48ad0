"""A chat in a terminal, or through a pipe: a line is a message, or a command."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from tuner.chat.screen import screen
from tuner.errors import UserError, nearest
from tuner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.chat.history import History
    from tuner.chat.screen import Columns, Stacked
    from tuner.chat.talk import Talk, Turn

HELP = """\
/params                    show how replies are drawn
/params temperature 0.7    set it; as many names and values as you like
/system TEXT               set the system prompt; without a text, show it; - takes it away
/reset                     forget what was said
/help                      this list
/quit                      end the chat; so does Ctrl-D
Ctrl-C stops a reply. A line that begins with a blank is a message, whatever follows."""


class Terminal:
    """Reads lines and shows replies until the input ends.

    With a terminal on both sides there is a prompt, line editing and the lines of earlier chats.
    Otherwise each line is answered, and nothing but replies is written to the output.

    Args:
        talk: the conversation.
        history: where lines and turns are kept.
    """

    def __init__(self, talk: Talk, history: History) -> None:
        self.talk, self.history = talk, history
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._console = Console(highlight=False)
        self._remarks = self._console if self.interactive else Console(stderr=True, highlight=False)
        self._commands: dict[str, Callable[[str], bool | None]] = {
            "/help": self._help,
            "/params": self._params,
            "/system": self._instruct,
            "/reset": self._reset,
            "/quit": lambda _: True,
        }
        self._readline = self._editor()

    def run(self) -> None:
        """Talk until the input ends, or `/quit`."""
        if self.interactive:
            self._remark("/help lists commands; Ctrl-C stops a reply, Ctrl-D ends the chat")
        ended = False
        while not ended:
            try:
                ended = self._line()
            except UserError as error:
                self._remark(f"error: {error}")
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                self._remark("\n(Ctrl-D or /quit ends the chat)")

    def _line(self) -> bool:
        """Read a line and do what it says; whether that is the end."""
        line = self._read()
        if line is None:
            return True
        if self.interactive and line.strip():
            if self._readline:
                self._readline.add_history(line)
            self.history.typed(line)
        if line.startswith("/"):
            word, _, rest = line.strip().partition(" ")
            if word not in self._commands:
                raise UserError(f"no command '{word}'. {nearest(word, self._commands)}")
            return bool(self._commands[word](rest.strip()))
        if line.strip():
            self._ask(line)
        return False

    def _ask(self, line: str) -> None:
        turn = self.talk.ask(line)
        for name, count in turn.forgotten.items():
            if count:
                whose = f" of {name}" if len(self.talk.names) > 1 else ""
                turns = "oldest turn" if count == 1 else f"{count} oldest turns"
                self._remark(f"(no more room: the {turns}{whose} left the conversation)")
        try:
            with screen(self.talk.names, self._console) as shown:
                for name in self.talk.names:
                    self._reply(turn, name, shown)
        finally:
            self.history.answered(turn)

    def _reply(self, turn: Turn, name: str, shown: Stacked | Columns) -> None:
        shown.begin(name)
        try:
            with closing(self.talk.reply(turn, name)) as saids:
                for said in saids:
                    shown.show(said.text)
        except KeyboardInterrupt:
            if not self.interactive:
                raise
        finally:
            remark = turn.said[name].remark
            shown.end(remark if self.interactive else "")
        if remark and not self.interactive:
            self._remark(f"{name}: {remark}")

    def _read(self) -> str | None:
        """A line without its end; null at the end of the input."""
        if not self.interactive:
            line = sys.stdin.readline()
            return line.rstrip("\r\n") if line else None
        try:
            return input("> ")
        except EOFError:
            print()
            return None

    def _help(self, _: str) -> None:
        self._remark(HELP)

    def _params(self, words: str) -> None:
        self.talk.settings = self.talk.settings.changed(words)
        self._remark(str(self.talk.settings))

    def _instruct(self, text: str) -> None:
        if text:
            self.talk.instruct(None if text == "-" else text)
        self._remark(self.talk.system or "(none but what the run's own prompts begin with)")

    def _reset(self, _: str) -> None:
        self.talk.reset()
        self._remark("(forgotten)")

    def _remark(self, text: str) -> None:
        self._remarks.print(Text(visible(text), "dim"))

    def _editor(self) -> Any:
        """Line editing with the lines of earlier chats; null where there is none."""
        if not self.interactive:
            return None
        try:
            import readline
        except ImportError:  # not every Python is built with it
            return None
        readline.set_auto_history(False)
        for line in self.history.lines():
            readline.add_history(line)
        return readline
