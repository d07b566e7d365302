"""What one request may ask for, and how many may ask: checked before anything is computed."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Refuse = Callable[[int, str, str], App]
"""``(status, code, message) -> the app that says so``."""

USERS = 10_000
"""Users whose rates are remembered."""


class Limits(NamedTuple):
    """Bounds of the service.

    Attributes:
        body: bytes of a request.
        inputs: texts (or rows of features) of a request, and of a batch.
        length: characters of a text.
        concurrency: requests that are in work at the same time.
        rate: requests of one user a second, twice as many at once; 0: no limit.
        patience: seconds in which a request must have arrived whole.
    """

    body: int = 1 << 20
    inputs: int = 64
    length: int = 10_000
    concurrency: int = 256
    rate: float = 50.0
    patience: float = 10.0


class Refusal(Exception):  # noqa: N818 - an answer rather than an error of ours
    """A request that is not answered: status, a word for machines, a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Rates:
    """How often users have asked of late: a bucket each, that fills at ``rate`` a second."""

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` is the clock."""
        self.rate, self.now = rate, now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, user: str) -> None:
        """Count a request.

        Raises:
            Refusal: 429, he asks too often.
        """
        if not self.rate:
            return
        most, now = max(2 * self.rate, 1.0), self.now()
        left, then = self._left.pop(user, (most, now))
        left = min(most, left + (now - then) * self.rate)
        allowed = left >= 1
        self._left[user] = (left - allowed, now)
        if len(self._left) > USERS:
            self._left.popitem(last=False)
        if not allowed:
            raise Refusal(
                429, "too_often", f"more than {self.rate:g} requests a second for this user"
            )


def bounded(app: App, limits: Limits, refuse: Refuse, path: str = "/v1/") -> App:
    """The app behind bounds on the number of requests at a time and on their bodies.

    Bodies are read here, at most ``limits.body`` bytes of them, so that a client who sends without
    end, or never, holds neither memory nor a place for long.
    """
    busy = 0

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal busy
        if scope["type"] != "http" or not scope["path"].startswith(path):
            await app(scope, receive, send)
            return
        if busy >= limits.concurrency:
            text = f"{limits.concurrency} requests are in work; try again"
            await refuse(429, "too_many_requests", text)(scope, receive, send)
            return
        busy += 1
        try:
            await app(scope, await _whole(scope, receive, limits), send)
        except Refusal as error:
            await refuse(error.status, error.code, error.message)(scope, receive, send)
        finally:
            busy -= 1

    return guarded


async def _whole(scope: Message, receive: Receive, limits: Limits) -> Receive:
    """What gives the request's body, which has arrived.

    Raises:
        Refusal: 413, it is too large; 408, it does not come.
    """
    too_large = Refusal(413, "body_too_large", f"a request may have {limits.body} bytes")
    told = dict(scope["headers"]).get(b"content-length", b"0")
    if not told.isdigit() or int(told) > limits.body:
        raise too_large
    body, more = b"", True
    try:
        async with asyncio.timeout(limits.patience):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    break  # gone: whoever answers finds out
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limits.body:
                    raise too_large
    except TimeoutError:
        raise Refusal(
            408, "too_slow", f"the request did not arrive in {limits.patience:g} s"
        ) from None
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
