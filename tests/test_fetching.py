from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import ContextFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from relay.delivery.reach import Reach
from relay.interfaces import HttpAnswer, HttpTrouble, IHttp
from relay.mail.answer import Unanswered
from relay.net.clock import ReactorClock
from relay.net.fetching import AT_ONCE, Fetching
from relay.net.tls_peers import TlsPeers
from relay.testing.dns import FakeNames
from relay.testing.http import FakeHttp
from relay.testing.internet import FakeInternet

#: What a server says to a request, of which it has the head and the body.
Script = Callable[[str, bytes], bytes]


class Server(Protocol):
    """Answers one request as its script says; an empty answer is none."""

    def __init__(self, script: Script, heard: list[tuple[str, bytes]]) -> None:
        self._script = script
        self._heard = heard
        self._octets = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        head, end, body = self._octets.partition(b"\r\n\r\n")
        length = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        if not end or len(body) < sum(length):
            return
        self._octets = b""
        self._heard.append((head.decode(), body))
        answer = self._script(head.decode(), body)
        if answer and self.transport is not None:
            self.transport.write(answer)
            if b"content-length" not in answer.lower() and b"chunked" not in answer:
                self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Servers(Factory):
    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[tuple[str, bytes]] = []
        self.connections: list[Server] = []

    def buildProtocol(self, addr: Any) -> Server:
        self.connections.append(Server(self.script, self.heard))
        return self.connections[-1]


def says(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def leads(to: str, status: int = 302) -> bytes:
    return says(b"", f"{status} Found", Location=to)


class FetchingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.internet = FakeInternet(self.clock)
        self.names = FakeNames({"www.example.org": {"A": ["198.51.100.80"]}})
        time = ReactorClock(self.clock)
        reach = Reach()
        self.http = Fetching(
            self.internet, time, self.names, lambda address: reach.permits(address, private=False), tls=TlsPeers(time)
        )

    def server(self, script: Script | bytes, address: str = "198.51.100.80", port: int = 80) -> Servers:
        servers = Servers(script if callable(script) else lambda head, body: script)
        self.internet.add(address, servers, port)
        return servers

    def ask(self, url: str = "http://www.example.org/", method: str = "GET", **options: Any) -> Deferred[HttpAnswer]:
        return Deferred.fromCoroutine(self.http.request(method, url, **options))

    def settle(self) -> None:
        for _ in range(50):
            self.clock.advance(0)

    def answer(self, url: str = "http://www.example.org/", method: str = "GET", **options: Any) -> HttpAnswer:
        asking = self.ask(url, method, **options)
        self.settle()
        return self.successResultOf(asking)

    def trouble(self, url: str = "http://www.example.org/", method: str = "GET", **options: Any) -> HttpTrouble:
        asking = self.ask(url, method, **options)
        self.settle()
        trouble: HttpTrouble = self.failureResultOf(asking, HttpTrouble).value
        return trouble


class RequestTests(FetchingCase):
    def test_it_keeps_the_contract(self) -> None:
        verifyObject(IHttp, self.http)
        verifyObject(IHttp, FakeHttp())

    def test_an_answer_has_its_status_its_fields_and_its_body(self) -> None:
        servers = self.server(says(b"yes", "404 Not Found", X_Odd="\xe9", Content_Type="text/plain"))
        answer = self.answer("http://www.example.org/a?b=c#d", "POST", headers=[("X-Key", "1")], body=b"who?")
        self.assertEqual((answer.status, answer.body), (404, b"yes"))
        self.assertEqual(answer.header("content-TYPE"), "text/plain")
        self.assertIn("x-odd", dict(answer.headers))
        self.assertIsNone(answer.header("X-Missing"))
        head, body = servers.heard[0]
        self.assertTrue(head.startswith("POST /a?b=c HTTP/1.1\r\n"))
        self.assertIn("\r\nHost: www.example.org", head)
        self.assertIn("\r\nX-Key: 1", head)
        self.assertEqual(body, b"who?")

    def test_a_connection_is_closed_when_the_answer_is_there(self) -> None:
        servers = self.server(says(b"yes"))
        self.answer()
        self.settle()
        self.assertTrue(servers.connections[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_can_be_no_request_is_a_mistake_of_whoever_asks(self) -> None:
        for url in (
            "ftp://www.example.org/",
            "www.example.org",
            "http://ann:pw@www.example.org/",
            "http:///",
            "http://é/",
        ):
            self.failureResultOf(self.ask(url), ValueError)
        for method in "get", "GET /", "", "CONNECT", "GET\r\nX: y":
            self.failureResultOf(self.ask(method=method), ValueError)
        for field in ("X-A", "b\r\nX-C: d"), ("X A", "b"), ("Host", "other"), ("content-length", "1"), ("X", "\u20ac"):
            self.failureResultOf(self.ask(headers=[field]), ValueError)
        self.assertEqual(self.internet.attempts, [])

    def test_an_answer_of_more_than_was_asked_for_is_none(self) -> None:
        announced = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 101
        head = b"HTTP/1.1 200 OK\r\n" + b"X-Long: yes\r\n" * 20_000
        for said in announced, endless, chunked, head:
            servers = self.server(said)
            self.assertEqual(self.trouble(most=100).kind, "too long")
            self.settle()
            self.assertTrue(servers.connections[0].lost)
        self.server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100 + b"0\r\n\r\n")
        self.assertEqual(self.answer(most=100).body, b"x" * 100)

    def test_an_answer_that_is_cut_off_is_none(self) -> None:
        for said in (
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"what?\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nab",
        ):
            servers = self.server(said)
            asking = self.ask()
            self.settle()
            for connection in servers.connections:
                if connection.transport is not None:
                    connection.transport.loseConnection()
            self.settle()
            self.assertEqual(self.failureResultOf(asking, HttpTrouble).value.kind, "broken")

    def test_an_answer_comes_in_time_or_not_at_all(self) -> None:
        servers = self.server(b"")
        asking = self.ask(timeout=2)
        self.settle()
        self.clock.advance(1.9)
        self.assertNoResult(asking)
        self.clock.advance(0.2)
        self.assertEqual(self.failureResultOf(asking, HttpTrouble).value.kind, "too late")
        self.settle()
        self.assertTrue(servers.connections[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_body_that_never_ends_comes_too_late(self) -> None:
        servers = self.server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        asking = self.ask(timeout=2)
        self.settle()
        self.clock.advance(3)
        self.assertEqual(self.failureResultOf(asking, HttpTrouble).value.kind, "too late")
        self.settle()
        self.assertTrue(servers.connections[0].lost)

    def test_whoever_cancels_breaks_the_connection_off(self) -> None:
        servers = self.server(b"")
        asking = self.ask()
        self.settle()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.settle()
        self.assertTrue(servers.connections[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_so_many_are_under_way_at_once_and_the_time_of_others_runs(self) -> None:
        servers = self.server(b"")
        under_way = [self.ask(timeout=10) for _ in range(AT_ONCE)]
        waiting = [self.ask(timeout=5), self.ask(timeout=10)]
        self.settle()
        self.assertEqual(len(servers.connections), AT_ONCE)
        self.clock.advance(5)
        self.failureResultOf(waiting[0], HttpTrouble)
        servers.script = lambda head, body: says(b"yes")
        under_way[0].cancel()
        self.failureResultOf(under_way[0], CancelledError)
        self.settle()
        self.assertEqual(self.successResultOf(waiting[1]).body, b"yes")
        self.clock.advance(5)
        for each in under_way[1:]:
            self.failureResultOf(each, HttpTrouble)


class WhereItGoesTests(FetchingCase):
    def test_a_host_that_refuses_or_is_not_there_is_said_to_refuse(self) -> None:
        self.internet.add("198.51.100.80")
        self.assertEqual(self.trouble().kind, "refused")
        self.assertIn("www.example.org", self.trouble().text)
        for url in "http://missing.example/", "http://198.51.100.99/", "http://300.1.1.1/", "http://-/":
            self.assertEqual(self.trouble(url).kind, "refused", url)
        self.names["unanswered.example"] = Unanswered("SERVFAIL")
        self.assertIn("SERVFAIL", self.trouble("http://unanswered.example/").text)

    def test_the_next_address_is_tried_if_one_takes_no_connection(self) -> None:
        self.names["two.example"] = {"A": ["198.51.100.1", "198.51.100.2"]}
        self.internet.silence("198.51.100.1")
        self.server(says(b"yes"), "198.51.100.2")
        asking = self.ask("http://two.example/")
        self.settle()
        self.clock.advance(3)
        self.settle()
        self.assertEqual(self.successResultOf(asking).body, b"yes")

    def test_a_request_that_an_address_has_taken_is_not_made_again(self) -> None:
        self.names["two.example"] = {"A": ["198.51.100.1", "198.51.100.2"]}
        self.server(b"nonsense\r\n\r\n", "198.51.100.1")
        second = self.server(says(b"yes"), "198.51.100.2")
        self.assertEqual(self.trouble("http://two.example/", "POST", body=b"x").kind, "broken")
        self.assertEqual(second.connections, [])

    def test_a_host_with_ipv6_alone_is_reached(self) -> None:
        self.names["six.example"] = {"AAAA": ["2001:db8::80"]}
        self.server(says(b"yes"), "2001:db8::80")
        self.assertEqual(self.answer("http://six.example/").body, b"yes")
        self.assertEqual(self.answer("http://[2001:db8::80]/").body, b"yes")

    def test_whoever_asks_may_go_anywhere(self) -> None:
        self.server(says(b"yes"), "10.0.0.1", 8080)
        self.server(says(b"yes"), "127.0.0.1", 8080)
        self.assertEqual(self.answer("http://10.0.0.1:8080/").status, 200)
        self.assertEqual(self.answer("http://127.0.0.1:8080/").status, 200)


class RedirectTests(FetchingCase):
    def setUp(self) -> None:
        super().setUp()
        self.names["other.example"] = {"A": ["198.51.100.81"]}

    def test_a_redirect_is_followed(self) -> None:
        self.server(leads("http://other.example/there#part"))
        other = self.server(says(b"yes"), "198.51.100.81")
        self.assertEqual(self.answer().body, b"yes")
        self.assertTrue(other.heard[0][0].startswith("GET /there HTTP/1.1\r\n"))

    def test_a_redirect_may_be_relative(self) -> None:
        servers = self.server(lambda head, body: says(b"yes") if head.startswith("GET /a/c ") else leads("c"))
        self.assertEqual(self.answer("http://www.example.org/a/b").body, b"yes")
        self.assertEqual(len(servers.heard), 2)

    def test_three_are_followed_and_no_more(self) -> None:
        def script(head: str, body: bytes) -> bytes:
            left = int(head.split()[1][1:])
            return leads(f"/{left - 1}") if left else says(b"yes")

        servers = self.server(script)
        self.assertEqual(self.answer("http://www.example.org/3").body, b"yes")
        self.assertEqual(self.trouble("http://www.example.org/4").kind, "not permitted")
        self.assertEqual(len(servers.heard), 8)

    def test_none_leads_to_an_address_that_is_not_public(self) -> None:
        inside = self.server(says(b"secret"), "127.0.0.1")
        for address in "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "::1", "fe80::1", "fd00::1":
            self.internet.add(address, inside, 80)
        self.names["inside.example"] = {"A": ["127.0.0.1"]}
        self.names["inside6.example"] = {"AAAA": ["::ffff:10.0.0.1"]}
        for to in (
            *("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0"),
            *("[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
            *("inside.example", "inside6.example", "localhost"),
        ):
            self.server(leads(f"http://{to}/"))
            self.assertIn(self.trouble().kind, ("not permitted", "refused"), to)
        self.assertEqual(inside.connections, [])

    def test_a_name_with_a_public_address_beside_others_leads_to_that_one(self) -> None:
        inside = self.server(says(b"secret"), "127.0.0.1")
        self.server(says(b"yes"), "198.51.100.82")
        self.names["mixed.example"] = {"A": ["127.0.0.1", "198.51.100.82"]}
        self.server(leads("http://mixed.example/"))
        self.assertEqual(self.answer().body, b"yes")
        self.assertEqual(inside.connections, [])

    def test_it_may_lead_on_in_the_own_network_at_the_host_and_port_that_was_asked(self) -> None:
        self.server(lambda head, body: says(b"yes") if "GET /b" in head else leads("/b"), "10.0.0.1", 8080)
        self.assertEqual(self.answer("http://10.0.0.1:8080/a").body, b"yes")
        other = self.server(says(b"secret"), "10.0.0.1", 81)
        self.server(leads("http://10.0.0.1:81/"), "10.0.0.1", 8080)
        self.assertEqual(self.trouble("http://10.0.0.1:8080/a").kind, "not permitted")
        self.assertEqual(other.connections, [])

    def test_a_name_is_looked_up_once(self) -> None:
        def script(head: str, body: bytes) -> bytes:
            self.names["www.example.org"] = {"A": ["127.0.0.1"]}
            return says(b"yes") if "GET /b" in head else leads("/b")

        inside = self.server(says(b"secret"), "127.0.0.1")
        self.server(script)
        self.assertEqual(self.answer().body, b"yes")
        self.assertEqual(self.names.asked.count(("www.example.org", "A")), 1)
        self.assertEqual(inside.connections, [])

    def test_other_schemes_and_nonsense_are_not_followed(self) -> None:
        for to in (
            "file:///etc/passwd",
            "unix:/run/relay.sock",
            "ftp://other.example/",
            "http://a:b@other.example/",
            "//",
        ):
            self.server(leads(to))
            self.assertEqual(self.trouble().kind, "not permitted", to)

    def test_keys_and_what_is_asked_are_told_to_nobody_else(self) -> None:
        for status in 302, 303, 307, 308:
            self.server(leads("http://other.example/", status))
            other = self.server(says(b"yes"), "198.51.100.81")
            self.answer(method="POST", headers=[("Authorization", "secret"), ("X-Key", "secret")], body=b"secret")
            head, body = other.heard[0]
            self.assertNotIn("secret", head)
            self.assertEqual(body, b"")

    def test_what_is_asked_again_at_the_same_place_is_asked_as_the_status_says(self) -> None:
        for status, method, sent in (302, "GET", b""), (303, "GET", b""), (307, "POST", b"x"), (308, "POST", b"x"):
            servers = self.server(
                lambda head, body, status=status: says(b"yes") if " /b " in head else leads("/b", status)
            )
            self.answer(method="POST", headers=[("X-Key", "1")], body=b"x")
            head, body = servers.heard[1]
            self.assertEqual((head.split()[0], body), (method, sent))
            self.assertIn("X-Key", head)

    def test_a_status_that_only_looks_like_a_redirect_is_an_answer(self) -> None:
        self.server(says(b"", "304 Not Modified", Location="http://127.0.0.1/"))
        self.assertEqual(self.answer().status, 304)
        self.server(says(b"where?", "302 Found"))
        self.assertEqual(self.answer().body, b"where?")


class EncryptedTests(TestCase):
    """With a reactor, and TLS as it is."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        authority = trustme.CA()
        file = self.folder / "authority.pem"
        authority.cert_pem.write_to_path(str(file))
        self.servers = Servers(lambda head, body: says(b"yes"))
        reactor: Any = the_reactor
        port = reactor.listenSSL(0, self.servers, Certified(authority.issue_cert("www.test")), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        names = FakeNames({"www.test": {"A": ["127.0.0.1"]}, "other.test": {"A": ["127.0.0.1"]}})
        time = ReactorClock(reactor)
        self.http = Fetching(reactor, time, names, lambda address: True, tls=TlsPeers(time, file))

    async def test_a_host_that_proves_its_name_is_asked(self) -> None:
        answer = await self.http.request("GET", f"https://www.test:{self.port}/")
        self.assertEqual(answer.body, b"yes")

    async def test_a_host_with_the_certificate_of_another_is_not(self) -> None:
        trouble = await self.assertFailure(
            Deferred.fromCoroutine(self.http.request("GET", f"https://other.test:{self.port}/")), HttpTrouble
        )
        self.assertEqual(trouble.kind, "broken")
        self.assertIn("other.test", str(trouble))
        self.assertEqual(self.servers.heard, [])

    async def test_no_redirect_leads_to_where_it_is_not_encrypted(self) -> None:
        self.servers.script = lambda head, body: leads("http://www.test/")
        trouble = await self.assertFailure(
            Deferred.fromCoroutine(self.http.request("GET", f"https://www.test:{self.port}/")), HttpTrouble
        )
        self.assertEqual(trouble.kind, "not permitted")


class Certified(ContextFactory):
    """The TLS of a server that shows this certificate."""

    def __init__(self, issued: trustme.LeafCert) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        with issued.private_key_and_cert_chain_pem.tempfile() as path:
            self._context.use_certificate_chain_file(path)
            self._context.use_privatekey_file(path)

    def getContext(self) -> SSL.Context:
        return self._context


class FakeHttpTests(SynchronousTestCase):
    def test_it_answers_by_url_or_as_a_function_says_and_notes_what_was_asked(self) -> None:
        http = FakeHttp({"https://a.example/": b"yes", "https://b.example/": HttpTrouble("too late")})
        asking = Deferred.fromCoroutine(http.request("GET", "https://a.example/"))
        self.assertEqual(self.successResultOf(asking), HttpAnswer(200, (), b"yes"))
        for url, kind in ("https://b.example/", "too late"), ("https://c.example/", "refused"):
            problem = self.failureResultOf(Deferred.fromCoroutine(http.request("GET", url)), HttpTrouble).value
            self.assertEqual(problem, HttpTrouble(kind))
        problem = self.failureResultOf(Deferred.fromCoroutine(http.request("GET", "https://a.example/", most=2))).value
        self.assertEqual(problem, HttpTrouble("too long"))
        http.servers = lambda asked: HttpAnswer(201, (("x", "y"),), asked.body)
        asking = Deferred.fromCoroutine(http.request("POST", "https://d.example/", body=b"z"))
        self.assertEqual(self.successResultOf(asking), HttpAnswer(201, (("x", "y"),), b"z"))
        self.assertEqual([asked.method for asked in http.asked], ["GET", "GET", "GET", "GET", "POST"])
