"""Secrets of whoever runs this: they are neither printed nor written."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote

from tuner.errors import UserError

HIDDEN = "***"
SHORTEST = 6  # characters of a value that is looked for: shorter ones are parts of words
LONG = 12  # characters of one that is no part of a word, so that it may stand within one
# A word in the name of an environment variable that holds a secret, and what the names of those end
# with that hold the place of one.
WORD = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASS|PASSPHRASE|PWD)S?\d*$")
PLACES = ("PATH", "FILE", "DIR")
FOLDERS = ("PWD", "OLDPWD")  # of the shell, where it is
NAMED = (
    r"(?:api|access|private|secret|account)[_-]?key|secret|password|passwd|passphrase|pwd|jwt|credentials?"
    r"|(?:auth|access|hub|hf|api|bearer)[_-]token"
)
# The last word of a setting whose value is a secret; and of those that only look so.
SETTING = re.compile(
    rf"(?:^|[_-])(?:{NAMED}|token|pass|auth(?:orization|entication)?|sig(?:nature)?)$", re.I
)
NO_SECRET = re.compile(r"(?:^|_)(?:pad|eos|bos|unk|sep|cls|mask|stop)_token$")
BARE = r"(?!-|None\b|null\b|\*{3})[^\s'\"}]*[^\s'\"},]"
VALUE = rf"(?:'(?:[^'\\]|\\.|'')+'|\"(?:[^\"\\]|\\.)+\"|{BARE})"
_ENCODED = re.compile(r"[^\s'\"]*%[0-9A-Fa-f]{2}[^\s'\"]*")
# What is a secret by its form or the name before it, whoever gave it; the first group stays.
FORMS = [
    # The login of an address: before an @, with or without a scheme, or cut off before the @.
    re.compile(r"([A-Za-z][\w+.-]*:/{1,2})[^\s<>]*(?=@)"),
    re.compile(r"([A-Za-z][\w+.-]*:/{1,2})[^\s/@:'\"\[]*:(?!\d{1,5}\b)[^\s/'\"]+"),
    re.compile(r"()(?<![\w/])[\w.+-]+:[^\s@'\"/]+(?=@[\w\[])"),
    re.compile(r"(//)[\w.+-]+:[^\s@'\"/]+(?=@[\w\[])"),
    re.compile(
        r"([?&;][\w.-]*(?:token|key|secret|passw|pwd|sig|auth|jwt|credential)[\w-]*=)[^&\s'\"]+",
        re.I,
    ),
    re.compile(r"(\bhooks\.[\w.-]+/)[^\s'\"]+"),
    re.compile(rf"(--[\w.-]*(?:token|{NAMED})[= ]){VALUE}", re.I),
    re.compile(rf"((?:{NAMED})['\"]?\s*(?:[=:]|,\s*val=)\s*){VALUE}", re.I),
    re.compile(r"((['\"])token\2\s*:\s*)(?!None\b|null\b|\*{3})(?:'[^']+'|\"[^\"]+\")", re.I),
    re.compile(r"(\bauthorization['\"]?\s*[=:]\s*['\"]?\w+\s+)(?!\*{3})[^\s'\",}]+", re.I),
    re.compile(r"(\bBearer\s+)[\w.~+/=-]{6,}"),
    re.compile(
        r"()\b(?:hf_[A-Za-z0-9]{8,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{16,}"
        r"|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16})"
    ),
]


def without_secrets(text: str) -> str:
    """A text with `***` in place of keys, tokens, passwords and the logins in addresses.

    Found are the values of environment variables that are named as secrets are, the logins of
    addresses in any variable (a proxy's), and what is a secret by its form or by the name before
    it.

    Args:
        text: what is about to be printed or written.
    """
    text = _ENCODED.sub(_without_encoded, text)
    for form in FORMS:
        text = form.sub(rf"\1{HIDDEN}", text)
    for value in sorted(set(_known()), key=len, reverse=True):
        if value in text:
            # Behind a line break that is told as \n, too.
            begins, ends = (
                (r"(?:(?<!\w)|(?<=\\[nrt]))", r"(?!\w)") if len(value) < LONG else ("", "")
            )
            text = re.sub(f"{begins}{re.escape(value)}{ends}", HIDDEN, text)
    return text


def _without_encoded(found: re.Match[str]) -> str:
    """A word with escapes such as %40: as it is, or decoded where that shows a secret."""
    decoded = unquote(found[0])
    for form in FORMS:
        decoded = form.sub(rf"\1{HIDDEN}", decoded)
    return decoded if HIDDEN in decoded and HIDDEN not in found[0] else found[0]


def _known() -> Iterable[str]:
    """Values of the environment that are secrets, in each form in which they may turn up."""
    for name, value in os.environ.items():
        given: list[str] = []
        words = name.upper().split("_")
        if any(map(WORD.search, words)) and words[-1] not in PLACES and name not in FOLDERS:
            given = [value.strip()]
        if "@" in value and not any(map(str.isspace, value)):  # a proxy may have no scheme
            login = value.rpartition("://")[2].rpartition("@")[0]
            given += [login, login.partition(":")[2]] if ":" in login else [login]
            given.append(base64.b64encode(unquote(login).encode()).decode())
        given += [line for line in value.split("\n") if given and len(line) >= LONG]  # of a key
        for one in given:
            coded = one.encode("utf-8", "surrogateescape")
            forms = {one, unquote(one), quote(coded, safe=""), quote(coded), quote_plus(coded)}
            forms |= {repr(one)[1:-1], repr(coded)[2:-1], json.dumps(one)[1:-1]}
            forms |= {base64.b64encode(part + coded).decode() for part in (b"", b"api:")}
            yield from (form for form in forms if len(form) >= SHORTEST)


def refuse_secrets(settings: Iterable[tuple[str, Any]]) -> None:
    """Refuse settings that would be written into the run's folder with a secret in them.

    Args:
        settings: by dotted key.

    Raises:
        UserError: one holds a secret; it is not told.
    """
    for key, value in settings:
        said = f"{key}={value}"
        if without_secrets(said) != said or _names_secret(key, value):
            raise UserError(
                f"{key}: holds a login, a key or a token, which the run's config.yaml would show "
                "to everybody. Allowed: a value without; give secrets by the environment "
                "(HF_TOKEN, WANDB_API_KEY and so on) or a file of your own"
            )


def _names_secret(key: str, value: Any) -> bool:
    """Whether a setting, or one within it, is called as secrets are and holds a text."""
    if isinstance(value, Mapping):
        inner = cast("Mapping[Any, Any]", value)
        return any(_names_secret(str(name), one) for name, one in inner.items())
    if isinstance(value, list | tuple):
        return any(_names_secret(key, one) for one in cast("Iterable[Any]", value))
    name = key.rpartition(".")[2]
    found = SETTING.search(name) and not NO_SECRET.search(name)
    return bool(found and isinstance(value, str) and value.strip())


class _Record(logging.LogRecord):
    """What a library logs: the client of the hub, for one, tells whole addresses."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.exc_info:  # formatters take the text that is there
            self.exc_text = without_secrets("".join(traceback.format_exception(*self.exc_info)))

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
