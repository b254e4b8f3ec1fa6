"""
The control socket: HTTP with JSON on a Unix socket, for `relayctl`.

Who may open the socket may ask: its mode is 0600. Nothing that changes anything is a GET.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from relay.net.waiting import start

#: What a path answers: any value that JSON can say.
Answer = Callable[[], Awaitable[Mapping[str, Any]]]

_log = Logger(namespace="relay.control")


class _Question(Resource):
    isLeaf = True

    def __init__(self, answer: Answer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer

    def render_GET(self, request: Request) -> bytes | int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def say(status: int, value: Mapping[str, Any]) -> None:
            if gone:
                return
            request.setResponseCode(status)
            request.setHeader(b"content-type", b"application/json")
            request.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
            request.finish()

        def fail(failure: Failure) -> None:
            _log.failure("A question on the control socket failed", failure)
            say(500, {"error": "the relay could not answer; its log says why"})

        try:
            answer: Mapping[str, Any] | Deferred[Mapping[str, Any]] = start(self._answer())
        except Exception:
            fail(Failure())
        else:
            if isinstance(answer, Deferred):
                answer.addCallbacks(lambda value: say(200, value), fail)
            else:
                say(200, answer)
        return NOT_DONE_YET


class _QuietSite(Site):
    def log(self, request: Any) -> None:
        """Who asked for the status how often is no news."""


def site(answers: Mapping[str, Answer]) -> Site:
    """The factory for the control socket: one GET for each name in `answers`."""
    root = Resource()
    for name, answer in answers.items():
        root.putChild(name.encode(), _Question(answer))
    factory = _QuietSite(root)  # type: ignore[no-untyped-call]
    factory.noisy = False
    factory.displayTracebacks = False
    return factory
