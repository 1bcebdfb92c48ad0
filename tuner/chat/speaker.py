"""What the models of a chat say, token by token."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import torch

from tuner.backbone import context_length, load_tokenizer
from tuner.data.encode import encode_header
from tuner.errors import UserError
from tuner.generate import StopReason, generate, stop_ids

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from tuner.chat.settings import Settings
    from tuner.data.example import Message
    from tuner.evaluation.systems import System

PARTIAL = "\ufffd"  # what the bytes of a character are decoded to as long as some are missing
PATIENCE = 0.5  # seconds without a token after which whoever listens can say stop


@dataclass(frozen=True, slots=True)
class Said:
    """A reply so far.

    Attributes:
        text: what is written of it, without its end-of-turn mark.
        stop_reason: why it ended; `stopped` where it has not ended by itself.
        new_tokens: tokens generated.
        seconds: since the question.
    """

    text: str = ""
    stop_reason: StopReason | Literal["stopped"] = "stopped"
    new_tokens: int = 0
    seconds: float = 0.0

    @property
    def remark(self) -> str:
        """What a person should know about how it ended."""
        match self.stop_reason:
            case "eos":
                return ""
            case "length":
                return f"(cut at max_new_tokens {self.new_tokens})"
            case "empty":
                return "(an empty reply; the turn is not remembered)"
            case "stopped":
                return "(stopped)"


class _Stopped(Exception):
    """Nobody waits for the reply any more."""


class Speaker:
    """Answers with a run, or with its base and the run.

    All replies are computed in one thread: those that are asked for at the same time, on a page,
    are written one after another. An adapter is switched off to ask its base, so that the base is
    in memory once.

    Args:
        systems: the run, its base in front of it or not; see `find_systems`.
        dtype: type of weights and arithmetic.
        device: where they are computed.

    Raises:
        UserError: the base or the trained weights do not load.
    """

    def __init__(self, systems: Sequence[System], dtype: torch.dtype, device: torch.device) -> None:
        tuned = systems[-1]
        self.names = [system.name for system in systems]
        self.prompt = tuned.prompt
        self.tokenizer = load_tokenizer(tuned.base, tuned.revision)
        self._stops = stop_ids(self.prompt, self.tokenizer)
        self._tuned = tuned.load(dtype, device)
        self._models = {tuned.name: self._tuned}
        if not hasattr(self._tuned, "disable_adapter"):
            self._models |= {system.name: system.load(dtype, device) for system in systems[:-1]}
        virtual = getattr(getattr(self._tuned, "active_peft_config", None), "num_virtual_tokens", 0)
        room = context_length(tuned.base, tuned.revision)
        self.room = None if room is None else room - (virtual or 0)  # tokens of prompt and reply
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="speaker")

    def header(self, messages: Sequence[Message]) -> list[int]:
        """Token ids that the reply to these messages continues, as training has them.

        Raises:
            UserError: the rendering has no form for them.
        """
        return encode_header(messages, self.prompt, self.tokenizer)

    def say(self, name: str, header: list[int], settings: Settings, draw: int) -> Generator[Said]:
        """Write a reply; to stop it, close the iterator.

        Args:
            name: of the system that answers.
            header: from `header`.
            settings: how the reply is drawn.
            draw: number of the question in the chat.

        Yields:
            The reply so far, after each token, and now and then while none comes, as where others
            are being answered; the last one is the whole.

        Raises:
            UserError: memory ran out.
        """
        said: SimpleQueue[Said | BaseException] = SimpleQueue()
        stop, newest = Event(), Said()
        self._thread.submit(self._write, name, header, settings, draw, said, stop)
        try:
            while True:
                try:
                    found = said.get(timeout=PATIENCE)
                except Empty:
                    yield newest
                    continue
                if isinstance(found, torch.OutOfMemoryError):
                    raise UserError(
                        "out of memory. /reset forgets what was said; a smaller --dtype, such as "
                        "bfloat16, takes less"
                    ) from found
                if isinstance(found, BaseException):
                    raise found
                yield (newest := found)
                if newest.stop_reason != "stopped":
                    return
        finally:
            stop.set()

    def _write(
        self,
        name: str,
        header: list[int],
        settings: Settings,
        draw: int,
        said: SimpleQueue[Said | BaseException],
        stop: Event,
    ) -> None:
        """Generate in the thread of the models."""
        tokens: list[int] = []
        text = ""
        began = time.perf_counter()

        def tell(newest: list[int]) -> None:
            nonlocal text
            if stop.is_set():
                raise _Stopped
            tokens.append(newest[0])
            if tokens[-1] not in self._stops:
                # Bytes that are no character yet can spoil the characters before them.
                text = max(text, self._text(tokens), key=len)
                said.put(Said(text, "stopped", len(tokens), time.perf_counter() - began))

        try:
            if stop.is_set():  # while others were answered
                return
            with self._asked(name) as model:
                (reply,) = generate(
                    model,
                    [header],
                    tokenizer=self.tokenizer,
                    stops=self._stops,
                    max_new_tokens=settings.max_new_tokens,
                    batch_size=1,
                    each_token=tell,
                    sampling=settings.sampling(draw),
                )
            said.put(Said(reply.text, reply.stop_reason, reply.new_tokens, reply.seconds))
        except _Stopped:
            return
        except BaseException as error:  # whoever waits has to hear of it
            said.put(error)

    def _text(self, tokens: list[int]) -> str:
        """The text of a reply so far, up to the last character whose bytes are all there."""
        # All tokens anew: what one stands for can depend on those around it.
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return text.rstrip(PARTIAL).strip()

    @contextmanager
    def _asked(self, name: str) -> Generator[Any]:
        """The model of a system, for as long as it is being asked."""
        if name in self._models:
            yield self._models[name]
            return
        with self._tuned.disable_adapter():
            yield self._tuned.get_base_model()
