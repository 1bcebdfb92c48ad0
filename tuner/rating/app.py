"""The page on which people rate: plain forms, one value each, stored before they are confirmed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tuner.errors import UserError
from tuner.guards import Guard, Limit, Password
from tuner.rating.desk import LONGEST_COMMENT, Desk
from tuner.rating.items import LONGEST_NAME, rater_name
from tuner.visible import visible

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from tuner.rating.store import Rating, Store
    from tuner.rating.study import Answers, Study

LARGEST_POST = 128 * 1024  # bytes; a comment of the longest kind, percent-encoded, fits
# Nothing but this server's own style and script; no text of a model can become either.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """The pages of one study.

    Args:
        study: what is rated.
        answers: its texts.
        store: where ratings go.
    """

    def __init__(self, study: Study, answers: Answers, store: Store) -> None:
        self.study, self.answers, self.store = study, answers, store

    @cached_property
    def _template(self) -> Any:
        environment = Environment(
            loader=PackageLoader("tuner.rating", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["visible"] = visible
        return environment.get_template("page.html.j2")

    def _page(self, view: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = self._template.render(
            view=view, study=self.study, longest_name=LONGEST_NAME, **values
        )
        # A lone surrogate has no UTF-8 form.
        return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)

    def _desk(self, request: Request) -> Desk:
        return self._desk_of(request.query_params.get("rater", ""))

    def _desk_of(self, typed: str) -> Desk:
        try:
            rater = rater_name(typed)
        except UserError as error:
            raise HTTPException(400, str(error)) from error
        return Desk(self.study, self.answers, self.store, rater)

    def start(self, request: Request) -> Response:
        """Ask for the name, or go on where the rater of that name was."""
        if "rater" not in request.query_params:
            return self._page("start", problem="")
        try:
            desk = self._desk(request)
        except HTTPException as error:
            return self._page("start", 400, problem=error.detail)
        done = desk.done()
        page = f"/item/{done.index(False) + 1}" if not all(done) else "/done"
        return RedirectResponse(f"{page}?{urlencode({'rater': desk.rater})}", 303)

    def item(self, request: Request) -> Response:
        """Show an item."""
        desk, number = self._desk(request), _number(request)
        if not 1 <= number <= len(desk.items):
            raise HTTPException(404, "there is no such item")
        item = desk.items[number - 1]
        asked, given, answers = desk.shown(item)
        return self._page(
            "item", rater=desk.rater, number=number, item=item, asked=asked, given=given,
            answers=answers, marks=desk.marks()[number - 1], done=desk.done(),
            longest_comment=LONGEST_COMMENT,
        )  # fmt: skip

    def finished(self, request: Request) -> Response:
        """Say thanks, or what is still open."""
        desk = self._desk(request)
        return self._page("done", rater=desk.rater, done=desk.done())

    async def save(self, request: Request) -> Response:
        """Store one value; the answer is sent after the disk has it."""
        return await run_in_threadpool(self._save, request, await request.body())

    def _save(self, request: Request, body: bytes) -> Response:
        try:
            pairs = parse_qs(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=10
            )
            fields = {key: values[-1] for key, values in pairs.items()}
            desk = self._desk_of(fields["rater"])
            number = _number(request)
            rating = self._rating(desk, number, fields)
        except (KeyError, IndexError, ValueError, UserError) as error:
            raise HTTPException(400, str(error)) from error
        desk.store.save([rating])
        if "application/json" in request.headers.get("accept", ""):
            done = desk.done()
            return JSONResponse({"done": sum(done), "this": done[number - 1]})
        back = f"/item/{number}?{urlencode({'rater': desk.rater})}#{fields.get('row', '')}"
        return RedirectResponse(back, 303)

    def _rating(self, desk: Desk, number: int, fields: dict[str, str]) -> Rating:
        if not 1 <= number <= len(desk.items):
            raise IndexError("there is no such item")
        item = desk.items[number - 1]
        match fields["kind"]:
            case "score":
                # By number, as the name of a criterion may be anything.
                criteria = {str(n): name for n, name in enumerate(self.study.criteria)}
                criterion = criteria[fields["criterion"]]
                return desk.score(item, fields["answer"], criterion, fields["value"])
            case "preference":
                first, second = fields["pair"]
                return desk.preference(item, (first, second), fields["value"])
            case "comment":
                return desk.comment(item, fields["value"])
            case kind:
                raise ValueError(f"there is no kind {kind!r}")

    def failed(self, request: Request, error: Exception) -> Response:
        """Say in words what went wrong; the page tries again after a 503."""
        if isinstance(error, HTTPException):
            return PlainTextResponse(visible(error.detail), error.status_code)
        return PlainTextResponse(visible(str(error)), 503)


def build_app(
    study: Study, answers: Answers, store: Store, host: str, password: str | None = None
) -> Starlette:
    """The web application of a study.

    Args:
        study: what is rated.
        answers: its texts.
        store: where ratings go.
        host: name or address that the server listens on.
        password: what people have to know; null where nobody but this machine's users can come.

    Returns:
        An ASGI application.
    """
    pages = Pages(study, answers, store)
    return Starlette(
        routes=[
            Route("/", pages.start),
            Route("/item/{number}", pages.item),
            Route("/item/{number}", pages.save, methods=["POST"]),
            Route("/done", pages.finished),
            Mount("/static", StaticFiles(packages=[("tuner.rating", "static")])),
        ],
        middleware=[
            *([Middleware(Password, password=password)] if password else []),
            Middleware(Guard, host=host, policy=POLICY),
            Middleware(Limit, largest=LARGEST_POST),
        ],
        exception_handlers={HTTPException: pages.failed, UserError: pages.failed},
    )


def _number(request: Request) -> int:
    """The number of the item in a request's path; 0, which no item has, where it is none."""
    said: str = request.path_params["number"]
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0
