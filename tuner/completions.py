"""What a request for a completion may say; the engine fails at what it cannot read."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from tuner.guards import whole

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

LONGEST_MESSAGE = 400  # characters of an answer that says what is wrong
STOPS = 4  # texts that end a reply, as OpenAI has it
LONGEST_STOP = 128  # characters; the engine compares each with every word of the vocabulary
# Own fields of the engine. They reach all of its switches, those that load code or run another
# template among them, and are no part of OpenAI's interface.
REFUSED = ("generation_config", "chat_template_kwargs")

Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Stops = Annotated[list[Stop], Field(min_length=1, max_length=STOPS)]
Tokens = Annotated[int, Field(ge=1, lt=2**31)]


class Part(BaseModel):
    """A part of a message; the models here read text alone."""

    model_config = ConfigDict(strict=True)
    type: Literal["text"]
    text: str


class Function(BaseModel):
    """What a model may call, or has called."""

    model_config = ConfigDict(strict=True)
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    """A tool that is offered."""

    model_config = ConfigDict(strict=True)
    type: Literal["function"]
    function: Function


class Called(Function):
    """A call of a tool; the engine reads the arguments as JSON."""

    arguments: str | dict[str, Any]


class Call(BaseModel):
    """A call in a message of the model."""

    model_config = ConfigDict(strict=True)
    function: Called


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(strict=True)
    role: str
    content: str | list[Part] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


class Completion(BaseModel):
    """The fields that the engine reads, with OpenAI's types and ranges."""

    model_config = ConfigDict(strict=True)
    model: str | None = None
    max_tokens: Tokens | None = None
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    # Becomes a factor of one more, which has to be above 0.
    frequency_penalty: float | None = Field(None, gt=-1, le=2, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Stops | None = None
    stream: bool | None = None
    logit_bias: dict[str, Annotated[float, Field(allow_inf_nan=False)]] | None = None


class Chat(Completion):
    """A request to `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Tokens | None = None
    tools: list[Tool] | None = None


class Text(Completion):
    """A request to `/v1/completions`."""

    prompt: str = Field(min_length=1)
    suffix: str | None = None


ASKED: dict[str, type[Completion]] = {"/v1/chat/completions": Chat, "/v1/completions": Text}


class Bodies:
    """Lets in requests that the engine can read, and says of others what is wrong with them.

    Args:
        app: the engine; in front of this, `Limit` has made the body one message.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        kind = ASKED.get(scope.get("path", ""))
        if kind is None or scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        body = (await receive()).get("body", b"")
        try:
            asked = readable(body, kind)
        except ValueError as error:
            await refusal(str(error))(scope, receive, send)
            return
        body = json.dumps(asked).encode()
        # Its old length would still be true of nothing.
        own = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        own.append((b"content-length", str(len(body)).encode()))
        await self.app({**scope, "headers": own}, whole(body, receive), send)


def readable(body: bytes, kind: type[Completion]) -> dict[str, Any]:
    """A request in the words that the engine understands.

    Args:
        body: as it was sent.
        kind: what it should be.

    Returns:
        The same request: a message with no calls of tools does not speak of them, as the engine
        would leave its text out; and biases are floats, as the engine takes no others.

    Raises:
        ValueError: it is something else; the message says in which field.
    """
    try:
        asked = json.loads(body.decode(), parse_constant=_no_number)
        # A lone surrogate, which JSON can hold, is no text for a tokenizer.
        json.dumps(asked, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is no JSON in UTF-8: {error}") from error
    if not isinstance(asked, dict):
        raise ValueError("the body is no JSON object")
    for name in REFUSED:
        if name in asked:
            raise ValueError(f"{name}: not taken here. Leave it out")
    try:
        kind.model_validate(asked)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        # Of what may be a text or a list, a list with a mistake is no text either.
        first = next((one for one in found if one["type"] != "string_type"), found[0])
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for message in asked["messages"] if kind is Chat else ():  # elsewhere nobody has looked at it
        if not message.get("tool_calls"):
            message.pop("tool_calls", None)
    if biases := asked.get("logit_bias"):
        asked["logit_bias"] = {token: float(bias) for token, bias in biases.items()}
    return asked


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def refusal(message: str, status: int = 400, headers: Any = None) -> JSONResponse:
    """An answer in the form that clients of OpenAI read."""
    said = {"message": message[:LONGEST_MESSAGE], "type": "invalid_request_error"}
    return JSONResponse({"error": said | {"param": None, "code": None}}, status, headers)


def answer_in_words(app: Starlette) -> None:
    """Let the engine say what a request is refused for, where only the model can tell.

    A chat template may refuse the order of roles, a bias be of a token that there is not, arguments
    be nested too deep. All would be taken for faults of the server.

    Args:
        app: the engine.
    """
    from fastapi.exceptions import RequestValidationError

    def refused(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException):
            status = 400 if error.status_code == 422 else error.status_code
            return refusal(str(error.detail), status, error.headers)
        if isinstance(error, RequestValidationError):
            return refusal("the body is no JSON object of the type application/json")
        # A line each: whoever asks could fill a disk with tracebacks.
        said = f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE]
        logging.getLogger("uvicorn.error").warning("a request was refused: %r", said)
        return refusal(str(error))

    own = (HTTPException, RequestValidationError, TemplateError)
    for kind in (*own, ValueError, RecursionError):
        app.add_exception_handler(kind, refused)
