from __future__ import annotations

import json
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

import trustme
from attrs import define, field
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import ContextFactory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols import tls
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed
from twisted.web.iweb import IAgent as IWebAgent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay import __version__
from relay.agents.http import HTTP, HttpAgent
from relay.agents.http_status import meaning
from relay.agents.parcels import Fate
from relay.delivery.trouble import judge
from relay.interfaces import IAgent, IAgentMaker
from relay.mail.envelope import Form
from relay.mail.outcome import (
    Breakage,
    Broke,
    Carried,
    Delayed,
    Fact,
    Failed,
    Phase,
    TlsTrouble,
    Unencrypted,
    Unwritten,
)
from relay.net.clock import ReactorClock
from relay.net.urls import Url
from relay.net.waiting import start
from tests.local_mail import HEAD, MESSAGE, NOW, Text, consignment, is_put_off, to
from tests.real_reactor import RealReactor

URL = "https://192.0.2.80/mail?key=hidden"
TOP = b"Return-Path: <ann@example.org>\r\nDelivered-To: jon@example.net\r\n"


@define(eq=False)
class Asked:
    """A request that a server has got, and how it answers."""

    method: bytes
    url: bytes
    headers: Any
    message: Any
    read: bytes = b""
    #: The connection is full: nothing is taken until `take`.
    full: bool = False
    answer: Deferred[Any] = field(factory=Deferred)
    body: Any = None
    code: int = 0
    phrase: bytes = b"Phrase"

    # What the message is written to.

    def write(self, octets: bytes) -> None:
        self.read += octets
        if self.full:
            self.message.pauseProducing()

    # What a response has.

    def deliverBody(self, protocol: Any) -> None:
        self.body = protocol

    # What the server does.

    def says(self, code: int, text: bytes = b"", *, end: bool = True) -> None:
        self.code = code
        self.answer.callback(self)
        self.body.dataReceived(text)
        if end:
            self.body.connectionLost()

    def breaks(self, error: Exception) -> None:
        self.answer.errback(error)

    def __getitem__(self, name: str) -> str:
        (value,) = self.headers.getRawHeaders(name)
        text: str = value
        return text


@implementer(IWebAgent)
class Web:
    """A server without a network."""

    def __init__(self, *, full: bool = False) -> None:
        self.asked: list[Asked] = []
        self.full = full
        #: Nobody can connect.
        self.away = False

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        asked = Asked(method, uri, headers, bodyProducer, full=self.full)
        self.asked.append(asked)
        if not self.away:
            bodyProducer.startProducing(asked)
        return asked.answer


class HttpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.web = Web()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.folder)
        self.agent = HttpAgent(self.clock, ReactorClock(self.clock, lambda: NOW), lambda way: self.web)

    def carry(self, *recipients: str, **more: Any) -> Any:
        parcel = {key: more.pop(key) for key in ("content", "sender", "id") if key in more}
        more = {"url": URL, **more}
        routes = [to(each, "http", **more) for each in recipients or ("jon@example.net",)]
        carrying = start(self.agent.carry(consignment(*routes, **parcel)))
        return carrying if isinstance(carrying, Deferred) else Deferred.fromCoroutine(_now(carrying))

    def fact(self, carrying: Any) -> Fact:
        (report,) = self.successResultOf(carrying)
        fact: Fact = report.fact
        return fact

    @property
    def asked(self) -> Asked:
        return self.web.asked[-1]


async def _now(value: Any) -> Any:
    return value


class RequestTests(HttpCase):
    def test_the_agent_keeps_its_contract(self) -> None:
        self.assertTrue(verifyObject(IAgent, self.agent))
        self.assertTrue(verifyObject(IAgentMaker, HTTP))

    def test_a_message_is_posted_as_it_is(self) -> None:
        for form in Form:
            self.carry(content=Text(form=form))
            self.assertEqual((self.asked.method, self.asked.url), (b"POST", URL.encode()))
            self.assertEqual(self.asked.read, HEAD + MESSAGE)
            self.assertEqual(self.asked.message.length, len(HEAD + MESSAGE))
            self.assertEqual(self.asked["Content-Type"], "message/rfc822")
            self.assertEqual(self.asked["User-Agent"], f"relay/{__version__}")

    def test_what_delivery_adds_can_stand_on_top(self) -> None:
        self.carry(top="true")
        self.assertEqual(self.asked.read, TOP + HEAD + MESSAGE)
        self.assertEqual(self.asked.message.length, len(self.asked.read))

    def test_it_is_read_no_further_than_the_connection_takes_it(self) -> None:
        self.web.full = True
        self.carry()
        self.assertEqual(self.asked.read, HEAD)
        self.asked.message.resumeProducing()
        self.assertEqual(self.asked.read, HEAD + MESSAGE[:7])

    def test_the_envelope_is_json_of_ascii(self) -> None:
        self.carry("jörg@example.net")
        envelope = self.asked["Relay-Envelope"]
        self.assertTrue(envelope.isascii() and envelope.isprintable())
        self.assertEqual(
            json.loads(envelope),
            {
                "id": "4Q2x7",
                "arrived": NOW - 1,
                "sender": "ann@example.org",
                "recipients": [
                    {"id": "r-jörg@example.net", "address": "jörg@example.net", "original": "jörg@example.net"}
                ],
                "client": {"address": "127.0.0.1", "helo": "", "listener": "ourselves", "user": None, "tls": False},
            },
        )

    def test_a_notice_has_no_sender(self) -> None:
        self.carry(sender=None)
        self.assertIsNone(json.loads(self.asked["Relay-Envelope"])["sender"])

    def test_each_recipient_has_a_request_of_its_own(self) -> None:
        carrying = self.carry("a@x", "b@x")
        self.web.asked[0].says(200)
        self.web.asked[1].says(404)
        facts = {str(report.recipient.address): report.fact for report in self.successResultOf(carrying)}
        self.assertIsInstance(facts["a@x"], Carried)
        self.assertTrue(facts["b@x"].permanent)

    def test_twenty_can_share_one_and_its_answer(self) -> None:
        carrying = self.carry(*(f"r{number}@x" for number in range(45)), recipients="all")
        counts = [len(json.loads(each["Relay-Envelope"])["recipients"]) for each in self.web.asked]
        self.assertEqual(counts, [20, 20, 5])
        for asked in self.web.asked:
            asked.says(204)
        self.assertEqual(len(self.successResultOf(carrying)), 45)

    def test_an_envelope_stays_below_what_servers_take_for_a_field(self) -> None:
        long = [f"{'r' * 60}{number:04}@{'d' * 60}.example.org" for number in range(20)]
        self.carry(*long, recipients="all")
        self.assertEqual(len(self.web.asked), 1)
        self.assertLess(len(self.asked["Relay-Envelope"]), 16 * 1024)

    def test_the_key_is_the_same_for_the_same_recipients_and_for_no_others(self) -> None:
        def key(*recipients: str) -> str:
            self.carry(*recipients, recipients="all")
            return self.asked["Idempotency-Key"]

        self.assertEqual(key("a@x"), "r-a@x")
        keys = [key("a@x"), key("b@x"), key("a@x", "b@x"), key("b@x", "c@x"), key("a@x", "b@x", "c@x")]
        self.assertEqual(len(set(keys)), 5)
        self.assertEqual(key("b@x", "a@x"), keys[2])

    def test_no_more_than_so_many_are_under_way(self) -> None:
        carrying = self.carry("a@x", "b@x", "c@x", concurrency="2")
        self.assertEqual(len(self.web.asked), 2)
        self.web.asked[0].says(200)
        self.assertEqual(len(self.web.asked), 3)
        for asked in self.web.asked[1:]:
            asked.says(200)
        self.successResultOf(carrying)

    def test_parameters_that_are_wrong_put_it_off(self) -> None:
        for parameters in {"url": "ftp://x"}, {"url": "http://example.org/"}, {"urll": "x"}, {"timeout": "soon"}:
            self.assertTrue(is_put_off(self.fact(self.carry(**parameters))))
        self.assertEqual(self.web.asked, [])


class TokenTests(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.folder / "token"
        self.write(b"s3cret\n")

    def write(self, octets: bytes, mode: int = 0o600) -> None:
        self.file.write_bytes(octets)
        self.file.chmod(mode)

    def test_it_is_shown_to_the_server_and_read_anew_each_time(self) -> None:
        self.carry(token=str(self.file))
        self.assertEqual(self.asked["Authorization"], "Bearer s3cret")
        self.write(b"n3w")
        self.carry(token=str(self.file))
        self.assertEqual(self.asked["Authorization"], "Bearer n3w")

    def test_without_one_nothing_is_shown(self) -> None:
        self.carry()
        self.assertFalse(self.asked.headers.hasHeader("Authorization"))

    def test_one_that_cannot_be_used_puts_it_off_and_is_not_told(self) -> None:
        for octets, mode, why in (
            (b"s3cret", 0o604, "can be read by everybody"),
            (b"s3cret\r\nX-Evil: 1", 0o600, "not one word"),
            (b"s3cr\xc3\xa9t", 0o600, "not one word"),
            (b" \n", 0o600, "not one word"),
            (b"s3cret" * 10_000, 0o600, "not one word"),
        ):
            self.write(octets, mode)
            fact = self.fact(self.carry(token=str(self.file)))
            assert isinstance(fact, Unwritten)
            self.assertTrue(is_put_off(fact))
            self.assertIn(why, fact.text)
            self.assertNotIn("s3cr", str(fact))
        self.assertTrue(is_put_off(self.fact(self.carry(token=str(self.folder / "absent")))))
        self.assertEqual(self.web.asked, [])


class AnswerTests(HttpCase):
    def answered(self, code: int, text: bytes = b"") -> Fact:
        carrying = self.carry()
        self.asked.says(code, text)
        return self.fact(carrying)

    def test_a_status_of_success_is_delivered_and_the_query_is_not_shown(self) -> None:
        self.assertEqual(
            self.answered(202, b"ok"), Carried(onward=False, by="https://192.0.2.80/mail", text="202 Phrase")
        )

    def test_what_each_status_means(self) -> None:
        later = {401, 407, 408, 425, 429}
        for status in range(600):
            fate = Fate.LATER
            if 200 <= status < 300:
                fate = Fate.DELIVERED
            elif 400 <= status < 500 and status not in later:
                fate = Fate.FAILED
            self.assertEqual(meaning(status).fate, fate, status)

    def test_a_refusal_fails_and_the_rest_is_put_off(self) -> None:
        for status, permanent in ((400, True), (422, True), (401, False), (429, False), (302, False), (503, False)):
            fact = self.answered(status)
            assert isinstance(fact, Unwritten)
            self.assertEqual(fact.permanent, permanent, status)

    def test_the_sender_is_told_what_an_application_means_and_not_where_it_is(self) -> None:
        refused = "the application that takes mail for this address has refused it"
        for status, enhanced, words in (
            (404, "5.1.1", ": there is no such mailbox"),
            (410, "5.1.1", ": there is no such mailbox"),
            (403, "5.7.1", ": it is not permitted"),
            (451, "5.7.1", ": it is not permitted"),
            (413, "5.3.4", ": the message is too large"),
            (400, "5.6.0", ": something is wrong with the message"),
            (415, "5.6.0", ": something is wrong with the message"),
            (422, "5.6.0", ": something is wrong with the message"),
            (418, "5.3.0", ""),
        ):
            self.assertEqual(judge(self.answered(status, b"words")).outcome, Failed(enhanced, refused + words))
        not_now = "the application that takes mail for this address cannot take it now"
        self.assertEqual(judge(self.answered(503)).outcome, Delayed("4.2.0", not_now))

    def test_a_redirect_is_not_followed(self) -> None:
        self.answered(301)
        self.assertEqual(len(self.web.asked), 1)

    def test_what_it_says_is_kept_in_one_short_line(self) -> None:
        fact = self.answered(500, b"<b>No\r\n\x1b[2Jdisk" + b"x" * 3000)
        assert isinstance(fact, Unwritten)
        self.assertTrue(fact.text.startswith("500 Phrase: <b>No | ?[2Jdiskxx"))
        self.assertLess(len(fact.text), 400)

    def test_nor_does_the_phrase_say_more_than_it_may(self) -> None:
        carrying = self.carry()
        self.asked.phrase = b"Fine\x1b[2J\xff" + b"x" * 1000
        self.asked.says(200)
        fact = self.fact(carrying)
        assert isinstance(fact, Carried)
        self.assertEqual(fact.text, "200 Fine?[2J?" + "x" * 41 + "...")

    def test_an_answer_without_an_end_is_not_waited_for(self) -> None:
        carrying = self.carry()
        self.asked.says(200, b"x" * 5000, end=False)
        self.assertIsInstance(self.fact(carrying), Carried)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nor_one_that_comes_slowly(self) -> None:
        carrying = self.carry()
        self.asked.says(200, b"x", end=False)
        self.assertNoResult(carrying)
        self.clock.advance(11)
        self.assertIsInstance(self.fact(carrying), Carried)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_success_before_the_end_of_the_message_is_none(self) -> None:
        self.web.full = True
        carrying = self.carry()
        self.asked.says(200)
        fact = self.fact(carrying)
        self.assertTrue(is_put_off(fact))

    def test_a_refusal_before_the_end_of_the_message_is_one(self) -> None:
        self.web.full = True
        carrying = self.carry()
        self.asked.says(413)
        fact = self.fact(carrying)
        assert isinstance(fact, Unwritten)
        self.assertTrue(fact.permanent)


class BreakageTests(HttpCase):
    def broke(self, carrying: Any) -> tuple[Breakage, Phase]:
        fact = self.fact(carrying)
        assert isinstance(fact, Broke), fact
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return fact.breakage, fact.phase

    def test_no_answer_in_time(self) -> None:
        carrying = self.carry(timeout="30s")
        self.clock.advance(29)
        self.assertNoResult(carrying)
        self.clock.advance(2)
        self.assertEqual(self.broke(carrying), (Breakage.TIMEOUT, Phase.END))

    def test_a_server_that_takes_it_too_slowly(self) -> None:
        self.web.full = True
        carrying = self.carry(timeout="30s")
        self.clock.advance(31)
        self.assertEqual(self.broke(carrying), (Breakage.TIMEOUT, Phase.CONTENT))

    def test_nobody_there(self) -> None:
        self.web.away = True
        carrying = self.carry(timeout="30s")
        self.clock.advance(31)
        self.assertEqual(self.broke(carrying), (Breakage.TIMEOUT, Phase.CONNECT))

    def test_a_connection_that_is_lost_behind_the_message(self) -> None:
        carrying = self.carry()
        self.asked.breaks(ResponseFailed([Failure(ConnectionLost())]))
        self.assertEqual(self.broke(carrying), (Breakage.LOST, Phase.END))

    def test_a_connection_that_nobody_waits_for_any_more_is_not_made(self) -> None:
        reactor = MemoryReactorClock()
        self.agent = HttpAgent(reactor, ReactorClock(reactor, lambda: NOW))
        carrying = self.carry(url="http://192.0.2.80/", plain="true", timeout="5s")
        (connector,) = reactor.connectors
        reactor.advance(6)
        self.assertTrue(connector.stoppedConnecting)
        self.assertEqual(self.broke(carrying), (Breakage.TIMEOUT, Phase.CONNECT))

    def test_content_that_cannot_be_read_is_never_whole(self) -> None:
        carrying = self.carry(content=Text(error=OSError(5, "Input/output error")))
        self.assertEqual(self.fact(carrying), Unwritten("the content of 4Q2x7", "Input/output error", "EIO"))
        self.assertFalse(self.asked.message.sent)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_request_can_be_stopped(self) -> None:
        carrying = self.carry()
        carrying.cancel()
        self.assertEqual(self.fact(carrying), Unwritten("http", "it took too long"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_was_answered_by_then_is_not_forgotten(self) -> None:
        carrying = self.carry()
        self.asked.says(200, b"so ", end=False)
        carrying.cancel()
        self.assertIsInstance(self.fact(carrying), Carried)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nor_at_the_deadline(self) -> None:
        carrying = self.carry(timeout="5s")
        self.asked.says(200, b"so ", end=False)
        self.clock.advance(6)
        self.assertIsInstance(self.fact(carrying), Carried)


class UrlTests(SynchronousTestCase):
    def test_it_is_encrypted_or_to_this_machine(self) -> None:
        for text in "https://app.example.org/mail", "http://127.0.0.1:8000/", "http://[::1]/", "http://localhost:80/x":
            Url.of(text)
        self.assertRaises(ValueError, Url.of, "http://app.example.org/")
        self.assertRaises(ValueError, Url.of, "http://127.0.0.1.example.org/")
        self.assertEqual(Url.of("http://app.example.org/", plain=True).port, 80)

    def test_what_is_none_is_refused(self) -> None:
        for text in (
            "",
            "app.example.org",
            "ftp://app.example.org/",
            "https://",
            "https:///mail",
            "https://ann:secret@app.example.org/",
            "https://app.example.org/#there",
            "https://app.example.org/a b",
            "https://app.example.org/\r\nX-Evil: 1",
            "https://bücher.example/",
            "https://app.example.org:port/",
            "https://app.example.org:99999/",
            "https://[::1/",
        ):
            problem = self.assertRaises(ValueError, Url.of, text)
            self.assertTrue(str(problem).startswith("should "), problem)
            self.assertNotIn("secret", str(problem))

    def test_the_query_is_not_shown(self) -> None:
        url = Url.of("https://app.example.org:8443/mail?token=s3cret")
        self.assertEqual(
            (url.host, url.port, url.shown), ("app.example.org", 8443, "https://app.example.org:8443/mail")
        )


class RealTests(SynchronousTestCase):
    """With a server of this machine."""

    def setUp(self) -> None:
        self.real = RealReactor()
        self.addCleanup(self.real.close)
        self.addCleanup(self.real.forget_timers)
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.folder)
        # Twisted's TLS asks for the reactor of the process, which does not run.
        self.patch(tls, "_get_default_clock", lambda: self.real.reactor)
        self.agent = HttpAgent(self.real.reactor, self.real.clock)
        self.posted: list[tuple[Any, bytes]] = []
        #: Requests of which the client has gone before they were answered.
        self.left: list[Any] = []

    def listen(self, context: Any = None) -> int:
        reactor = self.real.reactor
        site = Site(Application(self.posted, self.left), reactor=reactor)
        if context is None:
            port = reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, site, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def post(self, url: str, content: Any = None, **more: Any) -> Fact:
        given = consignment(to("jon@example.net", "http", url=url, **{"timeout": "20s", **more}), content=content)
        (report,) = self.real.result(Deferred.fromCoroutine(self.agent.carry(given)))  # type: ignore[arg-type]
        fact: Fact = report.fact
        return fact

    def test_a_message_arrives_with_its_envelope(self) -> None:
        fact = self.post(f"http://127.0.0.1:{self.listen()}/204")
        self.assertIsInstance(fact, Carried)
        ((headers, octets),) = self.posted
        self.assertEqual(octets, HEAD + MESSAGE)
        self.assertEqual(json.loads(headers.getRawHeaders("relay-envelope")[0])["sender"], "ann@example.org")
        self.assertEqual(headers.getRawHeaders("content-length"), [str(len(octets))])

    def test_a_large_one_arrives_whole(self) -> None:
        content = b"x" * 5_000_000 + b"\r\n"
        fact = self.post(f"http://127.0.0.1:{self.listen()}/200", content=Text(content, block=256 * 1024))
        self.assertIsInstance(fact, Carried)
        self.assertEqual(self.posted[0][1], HEAD + content)

    def test_one_of_which_a_part_cannot_be_read_does_not_arrive(self) -> None:
        content = Text(b"x" * 5_000_000, block=256 * 1024, error=OSError(5, "Input/output error"))
        fact = self.post(f"http://127.0.0.1:{self.listen()}/200", content=content)
        self.assertTrue(is_put_off(fact))
        self.assertEqual(self.posted, [])

    def test_nobody_listens(self) -> None:
        fact = self.post("http://127.0.0.1:1/")
        assert isinstance(fact, Broke)
        self.assertEqual((fact.breakage, fact.phase), (Breakage.REFUSED, Phase.CONNECT))

    def test_a_server_that_closes_instead_of_answering_may_have_it(self) -> None:
        fact = self.post(f"http://127.0.0.1:{self.listen()}/drop")
        assert isinstance(fact, Broke)
        self.assertEqual((fact.breakage, fact.phase), (Breakage.LOST, Phase.END))

    def test_a_server_that_takes_too_long_is_left(self) -> None:
        fact = self.post(f"http://127.0.0.1:{self.listen()}/hang", timeout="0.2s")
        assert isinstance(fact, Broke)
        self.assertEqual((fact.breakage, fact.phase), (Breakage.TIMEOUT, Phase.END))
        self.real.until(lambda: bool(self.left))

    def test_an_endless_header_section_is_not_listened_to(self) -> None:
        fact = self.post(f"http://127.0.0.1:{self.listen()}/endless")
        assert isinstance(fact, Broke)
        self.assertEqual((fact.breakage, fact.phase), (Breakage.LOST, Phase.END))

    def test_what_is_no_http_is_a_conversation_that_broke(self) -> None:
        fact = self.post(f"http://127.0.0.1:{self.listen()}/nonsense")
        self.assertIsInstance(fact, Broke)

    def certified(self, name: str) -> tuple[int, Path]:
        """The port of a server with a certificate for this name, and the file of its authority."""
        authority = trustme.CA()
        issued = authority.issue_cert(name)
        file = self.folder / "authority.pem"
        authority.cert_pem.write_to_path(str(file))
        return self.listen(Certified(issued)), file

    def test_mail_goes_to_a_server_that_is_who_it_should_be(self) -> None:
        port, file = self.certified("127.0.0.1")
        fact = self.post(f"https://127.0.0.1:{port}/200", authorities=str(file))
        self.assertIsInstance(fact, Carried)
        self.assertEqual(self.posted[0][1], HEAD + MESSAGE)

    def test_and_to_no_other(self) -> None:
        port, file = self.certified("192.0.2.1")
        for more in {"authorities": str(file)}, {}:
            fact = self.post(f"https://127.0.0.1:{port}/200", **more)
            assert isinstance(fact, Unencrypted), fact
            self.assertEqual(fact.trouble, TlsTrouble.FAILED)
            self.assertIn("certificate", fact.text)
        self.assertEqual(self.posted, [])

    def test_authorities_that_cannot_be_read_put_it_off(self) -> None:
        fact = self.post("https://127.0.0.1:1/", authorities=str(self.folder / "absent"))
        self.assertTrue(is_put_off(fact))


class Certified(ContextFactory):
    """The TLS of a server that shows this certificate."""

    def __init__(self, issued: trustme.LeafCert) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        with issued.private_key_and_cert_chain_pem.tempfile() as path:
            self._context.use_certificate_chain_file(path)
            self._context.use_privatekey_file(path)

    def getContext(self) -> SSL.Context:
        return self._context


class Application(Resource):
    """Answers with the status that the path says, and keeps what was posted."""

    isLeaf = True

    def __init__(self, posted: list[tuple[Any, bytes]], left: list[Any]) -> None:
        super().__init__()
        self._posted = posted
        self._left = left

    def render_POST(self, request: Any) -> Any:
        self._posted.append((request.requestHeaders, request.content.read()))
        if request.path == b"/drop":
            request.transport.abortConnection()
            return NOT_DONE_YET
        if request.path == b"/hang":
            request.notifyFinish().addErrback(self._left.append)
            return NOT_DONE_YET
        if request.path == b"/endless":
            request.transport.write(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 20_000)
            return NOT_DONE_YET
        if request.path == b"/nonsense":
            request.transport.write(b"220 mail.example ESMTP\r\n\r\n")
            return NOT_DONE_YET
        request.setResponseCode(int(request.path[1:]))
        return b""
