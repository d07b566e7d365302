"""The HTTP service: ``POST /v1/predict``, ``GET /healthz``, ``GET /metrics``."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from experiments.serving.batching import Batcher, Items, Job, answer
from experiments.serving.examples import check
from experiments.serving.figures import Figures
from experiments.serving.heads import HeadError
from experiments.serving.limits import App, Limits, Rates, Refusal, bounded
from experiments.serving.opened import Opened
from experiments.serving.store import HeadStore
from experiments.serving.tokens import Tokens
from fedmeta import __version__
from fedmeta.backbones.live import Live
from fedmeta.config import ConfigError

log = logging.getLogger("fedmeta.serve")

LOCAL = ["localhost", "127.0.0.1", "["]
"""Names of this machine; the last is how an IPv6 address begins, which no web page's name can."""
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}
STATUS = {"unknown_user": 404, "bad_name": 422, "unreadable": 503}
"""Of what may be wrong with a user's head; all else is a conflict, 409."""


class Asked(BaseModel):
    """The body of a request: a user, and texts or rows of features."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: str
    texts: list[str] | None = None
    features: list[list[float]] | None = None


def make_app(
    opened: Opened,
    backbone: Live,
    store: HeadStore,
    limits: Limits,
    hosts: Sequence[str] = LOCAL,
    tokens: Tokens | None = None,
) -> App:
    """The service as an ASGI app.

    Args:
        opened: the run.
        backbone: its backbone.
        store: the users' heads.
        limits: bounds.
        hosts: names under which it is asked, so that no web page that a browser here shows can
            ask it under a name of its own; none: any.
        tokens: who may ask for whom; None: everybody for everybody.
    """
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    figures, rates = Figures(store), Rates(limits.rate)
    compute = partial(answer, opened, backbone, store, {})
    batcher = Batcher(compute, limits.inputs, figures.told)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    app = FastAPI(
        title="fedmeta", version=__version__, lifespan=running, docs_url=None, redoc_url=None
    )

    def refuse(status: int, code: str, message: str) -> JSONResponse:
        figures.requests.labels(code).inc()
        headers = HEADERS.get(status)
        return JSONResponse({"error": {"code": code, "message": message}}, status, headers)

    @app.post("/v1/predict")
    async def predict(asked: Asked, request: Request) -> JSONResponse:
        began = time.perf_counter()
        if tokens is not None:
            tokens.check(request.headers.get("authorization"), asked.user)
        rates.take(asked.user)
        items = inputs_of(asked, opened, limits)
        found = await batcher.ask(Job(asked.user, items))
        figures.requests.labels("ok").inc()
        figures.predictions.inc(len(items))
        figures.seconds.observe(time.perf_counter() - began)
        return JSONResponse({"user": asked.user, "predictions": found})

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        needs = opened.needs
        return JSONResponse(
            {
                "status": "ok",
                "method": opened.method.name,
                "run_sha256": opened.sha256,
                "backbone": needs.backbone,
                "takes": "texts" if needs.modality == "text" else "features",
                "heads_in_memory": len(store),
            }
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Exception) -> JSONResponse:
        known = cast(Refusal, error)
        return refuse(known.status, known.code, known.message)

    @app.exception_handler(HeadError)
    async def no_head(request: Request, error: Exception) -> JSONResponse:
        code = cast(HeadError, error).code
        return refuse(STATUS.get(code, 409), code, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: Exception) -> JSONResponse:
        # Where and what is wrong, but not the input: errors end up in logs.
        first = cast(RequestValidationError, error).errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return refuse(422, "bad_request", f"{place}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: Exception) -> JSONResponse:
        known = cast(HTTPException, error)
        return refuse(known.status_code, "bad_request", str(known.detail))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed: %s", type(error).__name__)
        return refuse(500, "failed", "the service failed to answer; its log says more")

    served = bounded(cast(App, app), limits, cast(Any, refuse))
    if not hosts:
        return served
    return cast(App, TrustedHostMiddleware(cast(Any, served), allowed_hosts=hosts))


def inputs_of(asked: Asked, opened: Opened, limits: Limits) -> Items:
    """The inputs of a request, checked.

    Raises:
        Refusal: 413 or 422, with the reason.
    """
    given = [value for value in (asked.texts, asked.features) if value is not None]
    if len(given) != 1 or not given[0]:
        raise Refusal(422, "bad_request", "give texts or features, one of them, and not empty")
    if len(given[0]) > limits.inputs:
        raise Refusal(
            413, "too_many_inputs", f"{len(given[0])} inputs; a request may have {limits.inputs}"
        )
    items: Items
    if asked.texts is not None:
        longest = max(map(len, asked.texts))
        if longest > limits.length:
            raise Refusal(
                413, "text_too_long", f"a text of {longest} characters; it may have {limits.length}"
            )
        items = asked.texts
    else:
        rows = given[0]
        if len({len(row) for row in rows}) > 1:
            raise Refusal(422, "bad_request", "features: rows of different lengths")
        items = np.array(rows, dtype=np.float64).astype(np.float32)
        if opened.needs.modality != "text" and len(opened.needs.shape) != 1:
            items = _shaped(items, opened)
    try:
        check(items, opened.needs, "the request")
    except ConfigError as error:
        raise Refusal(422, "bad_request", str(error)) from None
    return items


def _shaped(rows: np.ndarray[Any, Any], opened: Opened) -> np.ndarray[Any, Any]:
    """Flat rows as items of the run's shape, where they have as many numbers."""
    shape = opened.needs.shape
    return rows.reshape(len(rows), *shape) if rows.shape[1] == np.prod(shape) else rows
