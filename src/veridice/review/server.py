"""The desk on the web: routes, who asks, and the process that serves them. Needs the extra ``review``."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from veridice._version import __version__
from veridice.cohort.ratings import REASONS
from veridice.errors import InputError, OutputError
from veridice.io.bids import THUMBNAIL_SUFFIX
from veridice.review.agreement import SEVERITY
from veridice.review.desk import Desk
from veridice.review.exchange import export
from veridice.review.guard import Guard
from veridice.review.options import ConflictError, NotFoundError, Said
from veridice.review.studied import page_of

STATIC = Path(str(resources.files("veridice.review") / "static"))
VIEWER = STATIC / "vendor" / "niivue.js"
DAY_S = 24 * 3600
STATUS = {NotFoundError: 404, ConflictError: 409, InputError: 422, OutputError: 507}


class RatingIn(BaseModel):
    """What a rater says of a mask."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=8, max_length=64, description="chosen by the sender; the same rating sent twice counts once")
    version: str = Field(max_length=64, description="of the scan, as its details name it")
    rating: Literal["accept", "needs edit", "reject"] | None = Field(None, description="where the study is rated so")
    score: int | None = Field(None, ge=1, le=5, description="where the study is rated from 1 to 5")
    reasons: list[str] = Field([], max_length=len(REASONS), description=f"any of {', '.join(REASONS)}")
    comment: str = Field("", max_length=4000)
    seconds: float | None = Field(None, ge=0, le=DAY_S, allow_inf_nan=False, description="from the first picture to the rating")


def create_app(desk: Desk, tokens: Mapping[str, str], hosts: Sequence[str], study: str, wake: Wake) -> FastAPI:
    """The application.

    Args:
        desk: the study.
        tokens: of each rater, by code.
        hosts: values of the Host header that are ours, with the port.
        study: what the page calls it.
        wake: called when something waits: a drawing or a message.
    """
    # The page of the interface would be fetched from elsewhere: ours is made by docs_page.
    app = FastAPI(title="veridice review", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.desk, app.state.tokens, app.state.study, app.state.wake = desk, dict(tokens), study, wake
    # Cookies know no ports, and several desks may be open.
    app.state.cookie = f"veridice_review_{hosts[0].rpartition(':')[2]}"
    for kind, status in STATUS.items():
        app.add_exception_handler(kind, _told(status))
    _add_page(app)
    _add_lists(app)
    _add_scan(app)
    _add_drawing(app)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, hosts=frozenset(host.lower() for host in hosts))
    return app


class Wake:
    """Whom to wake when something waits; nobody until it is set."""

    def drawing(self) -> None:
        """A drawing waits to be judged."""

    def message(self) -> None:
        """A rating waits to be told."""


def _told(status: int) -> Any:
    def answer(request: Request, error: Exception) -> Response:
        desk: Desk = request.app.state.desk
        return _json({"detail": desk.without_folders(str(error))}, status)

    return answer


def _json(content: Any, status: int = 200) -> Response:
    """Made by hand: lists of ten thousand scans are slow to check once more on their way out."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers={"Cache-Control": "no-store"}, media_type="application/json")


def current_rater(request: Request) -> str:
    """Code of the rater whose token came with a request: as the cookie, as a bearer, or in the address."""
    cookie, bearer = request.cookies.get(request.app.state.cookie), request.headers.get("authorization", "")
    given = [cookie, bearer.removeprefix("Bearer ").strip(), request.query_params.get("token")]
    for token in filter(None, given):
        for code, known in request.app.state.tokens.items():
            if hmac.compare_digest(token.encode(), known.encode()):
                return str(code)
    raise HTTPException(401, "no token of a rater: open the link that the desk printed", {"WWW-Authenticate": "Bearer"})


def current_desk(request: Request) -> Desk:
    """The study that is served."""
    desk: Desk = request.app.state.desk
    return desk


Rater = Annotated[str, Depends(current_rater)]
TheDesk = Annotated[Desk, Depends(current_desk)]
Version = Annotated[str, Query(max_length=64, description="of the scan, as its details name it")]


Key = Annotated[str, Query(max_length=64, description="chosen by the sender; the same drawing sent twice counts once")]


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page(token: Annotated[str | None, Query(max_length=200)] = None) -> Response:
        """The page itself holds nothing of the study; a valid link gets its cookie with it."""
        answer = FileResponse(STATIC / "desk.html", headers={"Cache-Control": "no-store"})
        if token and any(hmac.compare_digest(token.encode(), known.encode()) for known in app.state.tokens.values()):
            answer.set_cookie(app.state.cookie, token, max_age=30 * DAY_S, httponly=True, samesite="strict", path="/")
        return answer

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/api", include_in_schema=False)
    def docs_page(_rater: Rater) -> HTMLResponse:
        from veridice.report.pages import page_environment

        template = page_environment("veridice.review").get_template("api.html.j2")
        return HTMLResponse(template.render(api=app.openapi()))


def _add_lists(app: FastAPI) -> None:
    @app.get("/api/me", summary="Who is asking, and how this study is rated")
    def me(request: Request, rater: Rater, desk: TheDesk) -> Response:
        options = desk.options
        judge = rater == options.adjudicator
        told = {"rater": rater, "adjudicator": judge, "blind": options.hides(rater), "scale": options.scale}
        several = len(request.app.state.tokens) > 1
        more = {"study": request.app.state.study, "several": several, "reasons": REASONS, "ratings": list(SEVERITY)}
        return _json({**told, **more, "version": __version__})

    @app.get("/api/scans", summary="All scans of the study, in the order in which the rater gets them")
    def scans(rater: Rater, desk: TheDesk) -> Response:
        return _json(desk.list.list_for(rater))

    @app.get("/api/next", summary="The scan to look at next, kept for the rater for 15 minutes; null when none is left")
    def following(rater: Rater, desk: TheDesk, after: Annotated[list[str], Query(max_length=10_000)] = []) -> Response:  # noqa: B006
        return _json({"scan": desk.list.next_for(rater, after)})

    @app.get("/api/progress", summary="How far the rater is, and what can be promised of the masks that nobody looked at")
    def progress(rater: Rater, desk: TheDesk) -> Response:
        return _json(desk.list.progress(rater))

    @app.get("/api/agreement", summary="How far the raters agree; hidden while the study is rated blind")
    def agree(rater: Rater, desk: TheDesk) -> Response:
        return _json(desk.list.agreement(rater))

    @app.post("/api/export", summary="Write the ratings beside the results, as veridice review export does")
    def write(rater: Rater, desk: TheDesk) -> Response:
        done = export(desk.output, desk.scans, desk.store)
        desk.store.say(rater, "export")
        return _json(done)


def _add_scan(app: FastAPI) -> None:
    @app.get("/api/scans/{scan}", summary="Layers, doubtful places, verdict, and what was said and drawn")
    def details(scan: str, rater: Rater, desk: TheDesk) -> Response:
        return _json(desk.details(rater, scan))

    @app.get("/api/scans/{scan}/volumes/{layer}", summary="A layer as NIfTI; 409 when it changed since the scan was opened")
    def volume(scan: str, layer: str, version: Version, rater: Rater, desk: TheDesk) -> Response:
        path = desk.layer(rater, scan, layer, version)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NotFoundError("this file can no longer be read") from error
        # A version names its content, so it need not be asked for again.
        return Response(
            content, headers={"Cache-Control": "private, max-age=86400, immutable"}, media_type="application/octet-stream"
        )

    @app.get("/api/scans/{scan}/thumbnail", summary="A small picture of the scan with its mask")
    def thumbnail(scan: str, _rater: Rater, desk: TheDesk) -> Response:
        file = page_of(desk.scan(scan), THUMBNAIL_SUFFIX)
        if file is None or not (desk.output / file).is_file():
            raise NotFoundError("this scan has no picture")
        return FileResponse(desk.output / file, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/api/scans/{scan}/rating", summary="Keep a rating; it is on the disk when this answers")
    def rate(scan: str, said: RatingIn, rater: Rater, desk: TheDesk, request: Request) -> Response:
        content = {**said.model_dump(), "reasons": tuple(said.reasons)}
        kept = desk.rate(rater, scan, Said(**content))
        request.app.state.wake.message()
        return _json(kept.model_dump(include={"scan", "rating", "score", "reasons", "comment", "rated"}))

    @app.delete("/api/scans/{scan}/rating", summary="Take back the rater's latest rating of a scan")
    def unrate(scan: str, rater: Rater, desk: TheDesk) -> Response:
        return _json({"taken_back": desk.unrate(rater, scan)})


def _add_drawing(app: FastAPI) -> None:
    @app.put("/api/scans/{scan}/drawing", summary="Keep a corrected mask: gzip of one byte a voxel, in the FLAIR's order")
    async def draw(
        scan: str, version: Version, request: Request, rater: Rater, desk: TheDesk, draft: bool = False, key: Key = ""
    ) -> Response:
        from starlette.concurrency import run_in_threadpool

        content = await request.body()
        kept = await run_in_threadpool(desk.draw, rater, scan, version, content, draft, key)
        request.app.state.wake.drawing()
        return _json(kept)

    @app.get("/api/scans/{scan}/drawing", summary="The drawing that the rater sees, and what came of judging it")
    def drawn(scan: str, rater: Rater, desk: TheDesk) -> Response:
        desk.scan(scan)
        return _json(desk.corrections.latest(rater, scan))

    @app.delete("/api/scans/{scan}/drawing", summary="Take back the rater's latest drawing; the one before counts again")
    def undraw(scan: str, rater: Rater, desk: TheDesk) -> Response:
        return _json(desk.corrections.undo(rater, scan))

    @app.get("/api/scans/{scan}/drawings/{number}", summary="A drawing as NIfTI")
    def drawing_file(scan: str, number: int, rater: Rater, desk: TheDesk) -> Response:
        path = desk.corrections.file(rater, scan, number)
        return FileResponse(path, media_type="application/octet-stream", headers={"Cache-Control": "private, no-cache"})
