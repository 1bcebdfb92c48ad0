"""Secrets of whoever runs this: they are neither printed nor written."""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from tuner.errors import UserError

HIDDEN = "***"
SHORTEST = 6  # characters of a value that is looked for: shorter ones are parts of words
# What a word in the name of an environment variable ends with that holds a secret, and what the
# names of those end with that hold the place of one.
WORDS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE")
PLACES = ("PATH", "FILE", "DIR")
NAMED = (
    r"(?:api|access|private|secret)[_-]?key|secret|password|passwd|passphrase"
    r"|(?:auth|access|hub|hf|api|bearer)[_-]token"
)
VALUE = r"(?!None\b|null\b|\*{3})[^\s'\",}]+"
# What is a secret by its form or the name before it, whoever gave it; the first group stays.
FORMS = [
    # The login of an address: before an @, with or without a scheme, or cut off before the @.
    re.compile(r"([A-Za-z][\w+.-]*:/{1,2})[^\s'\"<>]*(?=@)"),
    re.compile(r"([A-Za-z][\w+.-]*:/{1,2})[^\s/@:'\"\[]*:(?!\d{1,5}\b)[^\s/'\"]+"),
    re.compile(r"()(?<![\w/])[\w.+-]+:[^\s@'\"/]+(?=@[\w\[])"),
    re.compile(r"([?&][\w.-]*(?:token|key|secret|passw|signature)[\w-]*=)[^&\s'\"]+", re.I),
    re.compile(rf"(--[\w.-]*token=){VALUE}", re.I),
    re.compile(rf"((?:{NAMED})['\"]?\s*(?:[=:]|,\s*val=)\s*['\"]?){VALUE}", re.I),
    re.compile(r"(\bBearer\s+)[\w.~+/=-]{6,}"),
    re.compile(r"()\b(?:hf_[A-Za-z0-9]{8,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{20,})"),
]


def without_secrets(text: str) -> str:
    """A text with `***` in place of keys, tokens, passwords and the logins in addresses.

    Found are the values of environment variables that are named as secrets are, the logins of
    addresses in any variable (a proxy's), and what is a secret by its form or by the name before
    it.

    Args:
        text: what is about to be printed or written.
    """
    for form in FORMS:
        text = form.sub(rf"\1{HIDDEN}", text)
    for value in sorted(set(_known()), key=len, reverse=True):
        if value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", HIDDEN, text)
    return text


def _known() -> Iterable[str]:
    """Values of the environment that are secrets, in each form in which they may turn up."""
    for name, value in os.environ.items():
        given: list[str] = []
        words = name.upper().split("_")
        if any(word.endswith(WORDS) for word in words) and words[-1] not in PLACES:
            given = [value.strip()]
        if "@" in value and not any(map(str.isspace, value)):  # a proxy may have no scheme
            login = value.rpartition("://")[2].rpartition("@")[0]
            given += [login, login.partition(":")[2]] if ":" in login else [login]
            given.append(base64.b64encode(unquote(login).encode()).decode())
        for one in given:
            yield from (form for form in (one, unquote(one)) if len(form) >= SHORTEST)


def refuse_secrets(settings: Iterable[tuple[str, Any]]) -> None:
    """Refuse settings that would be written into the run's folder with a secret in them.

    Args:
        settings: by dotted key.

    Raises:
        UserError: one holds a secret; it is not told.
    """
    for key, value in settings:
        said = f"{key}={value}"
        if without_secrets(said) != said:
            raise UserError(
                f"{key}: holds a login, a key or a token, which the run's config.yaml would show "
                "to everybody. Allowed: a value without; give secrets by the environment "
                "(HF_TOKEN, WANDB_API_KEY and so on) or a file of your own"
            )


class _Record(logging.LogRecord):
    """What a library logs: the client of the hub, for one, tells whole addresses."""

    def getMessage(self) -> str:
        return without_secrets(super().getMessage())


def keep_private() -> None:
    """Let logs, warnings and tracebacks of this process go through `without_secrets`."""
    logging.setLogRecordFactory(_Record)
    format_warning = warnings.formatwarning
    if format_warning.__module__ != __name__:

        def discreet(*args: Any, **options: Any) -> str:
            return without_secrets(format_warning(*args, **options))

        warnings.formatwarning = discreet
    sys.excepthook = _tell
    threading.excepthook = _tell_of_thread


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(without_secrets("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr)


def _tell_of_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and told.exc_type is not SystemExit:
        _tell(told.exc_type, told.exc_value, told.exc_traceback)
