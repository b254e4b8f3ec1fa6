"""
The control socket: HTTP with JSON on a Unix socket, for `relayctl`.

Who may open the socket may ask and act: its mode is 0600. A question is a GET with its words in the query; an act is a
POST with a JSON object. Nothing that changes anything is a GET. An answer is a JSON object; one whose status is not 200
has a sentence in `error`. What may be long comes in pages: `next`, if it is not "", is what to ask for the next one
with, as `after`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from attrs import Factory, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from relay.interfaces import HistoryUnavailable, OutcomeUnknown, SpoolError
from relay.net.peer_user import own_user, user_at
from relay.net.waiting import start

#: What somebody may say, in octets.
MOST_SAID: Final = 256 * 1024

#: Headers in which another process of the relay says for whom it asks, and that the act is noted elsewhere.
OPERATOR: Final = b"relay-operator"
ASIDE: Final = b"relay-aside"

_log = Logger(namespace="relay.control")


class Refused(Exception):
    """What was asked cannot be answered, and the sentence says why. `status` is HTTP's."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


@frozen
class Asked:
    """A question, or an act that is asked for."""

    words: Mapping[str, Any]
    #: Who is at the other end, by the kernel's word; `None` where it does not know.
    user: str | None = None
    #: Several workers are told the same, and another one has noted it in the mail log.
    aside: bool = False

    def text(self, name: str) -> str:
        """A word; "" if it is not said. Raises `Refused` if it is no text."""
        value = self.words.get(name, "")
        if not isinstance(value, str):
            raise Refused(f"'{name}' should be a text")
        return value


#: An answer is any object that JSON can say. Raises `Refused`.
Answer: TypeAlias = Callable[[Asked], Awaitable[Mapping[str, Any]]]


@frozen
class Desk:
    """What may be asked, and what may be done, each by its path."""

    questions: Mapping[str, Answer] = Factory(dict)
    acts: Mapping[str, Answer] = Factory(dict)


class _Request(server.Request):
    """One that keeps no more of what is said than it may."""

    too_long = False

    content: Any

    def handleContentChunk(self, data: bytes) -> None:
        self.too_long = self.too_long or self.content.tell() + len(data) > MOST_SAID
        if not self.too_long:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]


class _Counter(Resource):
    """All paths."""

    isLeaf = True

    def __init__(self, desk: Callable[[], Desk]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk

    def render(self, request: _Request) -> int:
        reply = _Reply(request)
        try:
            answer, asked = self._understood(request)
            said: Mapping[str, Any] | Deferred[Mapping[str, Any]] = start(answer(asked))
        except Exception:
            reply.fail(Failure())
        else:
            if isinstance(said, Deferred):
                said.addCallbacks(reply.say, reply.fail)
            else:
                reply.say(said)
        return NOT_DONE_YET

    def _understood(self, request: _Request) -> tuple[Answer, Asked]:
        path = request.path.decode("ascii", "replace").strip("/")
        if request.method not in (b"GET", b"POST"):
            raise Refused("only GET and POST are understood", 405)
        asking = request.method == b"GET"
        desk = self._desk()
        here, there = (desk.questions, desk.acts) if asking else (desk.acts, desk.questions)
        if path not in here:
            if path in there:
                raise Refused(f"/{path} is {'an act: POST it' if asking else 'a question: GET it'}", 405)
            raise Refused(f"there is no /{path}", 404)
        words = _query(request) if asking else _body(request)
        return here[path], Asked(words, _user(request), request.getHeader(ASIDE) is not None)


class _Reply:
    """Said once, unless whoever asked has gone."""

    def __init__(self, request: _Request) -> None:
        self._request: Any = request
        self._gone = False
        request.notifyFinish().addErrback(self._went)

    def _went(self, _failure: Failure) -> None:
        self._gone = True

    def say(self, value: Mapping[str, Any], status: int = 200) -> None:
        if self._gone:
            return
        octets = json.dumps(value, ensure_ascii=True).encode() + b"\n"
        self._request.setResponseCode(status)
        self._request.setHeader(b"content-type", b"application/json")
        self._request.setHeader(b"content-length", str(len(octets)).encode())
        self._request.write(octets)
        self._request.finish()

    def fail(self, failure: Failure) -> None:
        refused = as_refused(failure.value)
        if refused is None:
            _log.failure("A question on the control socket failed", failure)
            refused = Refused("the relay could not answer; its log says why", 500)
        self.say({"error": refused.sentence}, refused.status)


def as_refused(problem: BaseException | None) -> Refused | None:
    """What whoever asked is told of it; `None`: it is a fault of ours."""
    match problem:
        case Refused():
            return problem
        case OutcomeUnknown():
            return Refused("nobody can say whether this has happened: look, and say it again", 503)
        case SpoolError():
            return Refused(f"the spool cannot do this now: {problem}", 503)
        case HistoryUnavailable():
            return Refused(f"the history cannot be read now: {problem}", 503)
    return None


def _user(request: _Request) -> str | None:
    """Who asks. A process of our own user may ask for somebody else: the parent of workers does."""
    user, other = user_at(request.transport), request.getHeader(OPERATOR)
    return other.decode("utf-8", "replace") if other is not None and user is not None and user == own_user() else user


def _query(request: _Request) -> Mapping[str, str]:
    try:
        return {name.decode(): values[-1].decode() for name, values in request.args.items()}
    except UnicodeDecodeError:
        raise Refused("what is asked should be in UTF-8") from None


def _body(request: _Request) -> Mapping[str, Any]:
    if request.too_long:
        raise Refused(f"no more than {MOST_SAID} octets may be said at once", 413)
    try:
        value = json.loads(request.content.read() or b"{}")
        # JSON can say half a character, and nothing else can.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("what is said should be JSON") from None
    if not isinstance(value, dict):
        raise Refused("what is said should be an object of JSON")
    return value


class QuietSite(Site):
    """A site of which nobody hears in the log."""

    requestFactory = _Request

    def log(self, request: Any) -> None:
        """Who asked for the status how often is no news. Acts are in the mail log."""


def site(desk: Callable[[], Desk]) -> Site:
    """The factory for the control socket. Each time that somebody comes it is asked which desk there is."""
    factory = QuietSite(_Counter(desk))  # type: ignore[no-untyped-call]
    factory.noisy = False
    factory.displayTracebacks = False
    return factory
