"""The page of numbers, as Prometheus reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from relay.assembly import answers_for_control
from relay.config.addresses import listen_address
from relay.config.restarts import restarts
from relay.config.settings import Settings
from relay.control.api import Asked, Desk, QuietSite, Refused
from relay.control.metrics import MOST_DESTINATIONS, Numbers
from relay.control.page import MetricsPage, open_page
from relay.interfaces import SpoolError
from relay.net.maillog import EVENTS
from relay.sharing import Share, settings_of_share
from tests.real_reactor import RealReactor
from tests.test_control_queue import ControlCase
from tests.test_control_together import TogetherCase

DOCUMENTED = Path(__file__).parent.parent / "docs/metrics.md"


def read(site: QuietSite, path: str = "/metrics", host: str = "127.0.0.1:9125", **headers: str) -> tuple[int, str, str]:
    """The status, the kind of the answer, and its text."""
    transport = ask(site, path, host, **headers)
    return said(transport)


def ask(site: QuietSite, path: str = "/metrics", host: str = "127.0.0.1:9125", **headers: str) -> StringTransport:
    channel = site.buildProtocol(UNIXAddress("client"))
    transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
    channel.makeConnection(transport)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    channel.dataReceived(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n{more}\r\n".encode())
    transport.channel = channel  # type: ignore[attr-defined]
    return transport


def said(transport: StringTransport) -> tuple[int, str, str]:
    head, _, body = transport.value().partition(b"\r\n\r\n")
    [kind] = re.findall(rb"(?im)^content-type: ([^\r\n]*)", head)
    leave(transport)
    return int(head.split()[1]), kind.decode(), body.decode()


def leave(transport: StringTransport) -> None:
    transport.channel.connectionLost(connectionDone)  # type: ignore[attr-defined]


def samples(text: str) -> dict[tuple[str, Any], float]:
    """Each number by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


def site_of(desk: Desk, hosts: frozenset[str] | None = None) -> QuietSite:
    return QuietSite(MetricsPage(lambda: desk, hosts))


class PageCase:
    """For what looks at numbers."""

    assertEqual: Any
    site: QuietSite

    def numbers(self) -> dict[tuple[str, Any], float]:
        status, kind, text = read(self.site)
        self.assertEqual((status, kind.split(";")[0]), (200, "text/plain"), text)
        return samples(text)

    def number(self, name: str, **labels: str) -> float:
        return self.numbers()[f"relay_{name}", frozenset(labels.items())]


class OneProcessTests(PageCase, ControlCase):
    def setUp(self) -> None:
        super().setUp()
        self.desk = answers_for_control(self.world.relay, 42, {"127.0.0.1:2525": "127.0.0.1:2525"})
        self.site = site_of(self.desk)

    def test_what_happened_is_counted_and_what_has_not_is_0(self) -> None:
        self.assertEqual(self.number("messages_total", worker="0", event="accepted"), 0)
        self.post_mail("x@a.example", "y@b.example")
        self.assertEqual(self.number("messages_total", worker="0", event="accepted"), 1)
        self.assertEqual(self.number("messages_total", worker="0", event="delayed"), 2)
        counted = {dict(labels)["event"] for name, labels in self.numbers() if name == "relay_messages_total"}
        self.assertEqual(counted, EVENTS)

    def test_the_queue_has_its_numbers(self) -> None:
        self.assertEqual(self.number("queue_oldest_seconds", worker="0"), 0)
        self.post_mail("x@a.example", "y@b.example")
        self.post("queue/hold", to="@b.example")
        self.assertEqual(self.number("queue_entries", worker="0"), 1)
        self.assertEqual(self.number("queue_recipients", worker="0", state="waiting"), 1)
        self.assertEqual(self.number("queue_recipients", worker="0", state="held"), 1)
        self.assertEqual(self.number("queue_oldest_seconds", worker="0"), 60)
        self.assertEqual(self.number("queue_corrupt_entries", worker="0"), 0)

    def test_who_is_connected_is_counted(self) -> None:
        self.world.connect()
        self.assertEqual(self.number("connections", worker="0", listener="127.0.0.1:2525"), 1)

    def test_the_process_is_known(self) -> None:
        self.world.pass_time(90)
        self.assertEqual(self.number("uptime_seconds", worker="0"), 90)
        self.assertEqual(self.number("worker_up", worker="0"), 1)
        self.assertEqual(self.number("accepting", worker="0"), 1)

    def test_destinations_are_counted_by_what_stands_in_their_way(self) -> None:
        self.post_mail("x@a.example", "y@b.example")
        self.post("dest/pause", name="a.example")
        self.assertEqual(self.number("destinations", obstacle="paused"), 1)
        self.assertEqual(self.number("destination_active", destination="a.example"), 0)
        self.assertEqual(sum(v for (name, _), v in self.numbers().items() if name == "relay_destinations"), 2)

    def test_openmetrics_can_be_had_too(self) -> None:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}
        status, kind, text = read(self.site, **accept)
        self.assertEqual((status, kind.split(";")[0]), (200, "application/openmetrics-text"))
        self.assertIn("relay_messages", [family.name for family in openmetrics(text)])

    def test_each_name_is_documented(self) -> None:
        self.post_mail("x@a.example")
        _, _, text = read(self.site)
        shown = {(f"{f.name}_total" if f.type == "counter" else f.name) for f in families(text)}
        documented = set(re.findall(r"^\| `(relay_\w+)", DOCUMENTED.read_text(), re.MULTILINE))
        without_configuration = {"relay_configuration_info", "relay_configuration_age_seconds"}
        self.assertEqual(shown | without_configuration, documented)

    def test_elsewhere_there_is_nothing(self) -> None:
        for path in ("/", "/metrics/", "/status", "/queue"):
            self.assertEqual(read(self.site, path)[0], 404, path)


class SeveralProcessesTests(PageCase, TogetherCase):
    def setUp(self) -> None:
        super().setUp()
        self.site = site_of(self.desk)

    def test_it_is_the_same_page_with_a_number_for_each_worker(self) -> None:
        alone = site_of(self.processes[0].desk)
        for at in (0, 1, 1):
            self.post_mail(at, "x@a.example")
        one = {name for name, _ in samples(read(alone)[2])}
        several = {name for name, _ in self.numbers()}
        self.assertEqual(several - one, {"relay_configuration_info", "relay_configuration_age_seconds"} & several)
        self.assertEqual(one - several, set())
        for worker, accepted in (("0", 1), ("1", 2), ("2", 0)):
            self.assertEqual(self.number("messages_total", worker=worker, event="accepted"), accepted)
            self.assertEqual(self.number("queue_entries", worker=worker), accepted)
        self.assertEqual(self.number("destinations", obstacle="none"), 1)

    def test_of_a_worker_that_does_not_answer_only_that_is_told(self) -> None:
        self.silence(1)
        self.assertEqual([self.number("worker_up", worker=worker) for worker in "012"], [1, 0, 1])
        about = {name for name, labels in self.numbers() if ("worker", "1") in labels}
        self.assertEqual(about, {"relay_worker_up"})
        for at in (0, 2):
            self.silence(at)
        about = {name for name, labels in self.numbers() if labels}
        self.assertEqual(about, {"relay_worker_up", "relay_build_info"})


class SharingTests(SynchronousTestCase):
    def test_no_worker_has_a_page_of_its_own_and_it_stays_where_it_is(self) -> None:
        settings = Settings.model_validate({"metrics": {"address": "127.0.0.1:9125"}})
        self.assertIsNone(settings_of_share(settings, Share(0, 2)).metrics.address)
        self.assertEqual([each.path for each in restarts(Settings(), settings)], [("metrics", "address")])


class ManyTests(SynchronousTestCase):
    def test_only_the_busiest_destinations_have_numbers_of_their_own(self) -> None:
        views = [
            {"name": f"d{n}.example", "active": n % 7, "limit": 20, "ready": n, "obstacle": None} for n in range(1000)
        ]
        status = {"version": "1", "workers": [{"worker": 0, "answers": False}]}
        found = {family.name: family for family in Numbers(status, views).collect()}
        self.assertEqual(len(found["relay_destination_ready"].samples), MOST_DESTINATIONS)
        self.assertEqual(min(sample.value for sample in found["relay_destination_ready"].samples) > 890, True)
        self.assertEqual(found["relay_destinations"].samples[0].value, 1000)

    def test_a_name_may_have_any_characters(self) -> None:
        name = 'lmtp:[a"b\\c]\n:24'
        views = [{"name": name, "active": 1, "limit": 2, "ready": 3, "obstacle": "resting"}]

        async def status(_asked: Asked) -> Mapping[str, Any]:
            return {"version": "1", "workers": [{"worker": 0, "answers": False}]}

        async def dest(_asked: Asked) -> Mapping[str, Any]:
            return {"destinations": views}

        _, _, text = read(site_of(Desk({"status": status, "dest": dest})))
        self.assertEqual(samples(text)["relay_destination_ready", frozenset({("destination", name)})], 3)


class AskingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rounds: list[Deferred[Mapping[str, Any]]] = []
        self.addCleanup(self.answer)

    def answer(self) -> None:
        """Whoever waits."""
        for each in self.rounds:
            if not each.called:
                each.callback({"version": "1", "workers": [{"worker": 0, "answers": False}]})

    async def status(self, _asked: Asked) -> Mapping[str, Any]:
        self.rounds.append(Deferred())
        return await self.rounds[-1]

    async def dest(self, _asked: Asked) -> Mapping[str, Any]:
        raise Refused("nobody answers", 503)

    def site(self, hosts: frozenset[str] | None = None) -> QuietSite:
        return site_of(Desk({"status": self.status, "dest": self.dest}), hosts)

    def test_however_many_look_one_round_is_asked_at_a_time(self) -> None:
        site = self.site()
        readers = [ask(site) for _ in range(3)]
        self.assertEqual(len(self.rounds), 1)
        leave(readers.pop())
        self.answer()
        for reader in readers:
            self.assertIn('relay_worker_up{worker="0"} 0.0', said(reader)[2])
        ask(site)
        self.assertEqual(len(self.rounds), 2)

    def test_what_cannot_be_told_is_503_for_all_who_wait(self) -> None:
        site = self.site()
        for problem in (Refused("nobody answers", 503), SpoolError("no disk")):
            readers = [ask(site) for _ in range(2)]
            self.rounds[-1].errback(problem)
            for reader in readers:
                status, _, text = said(reader)
                self.assertEqual(status, 503)
                self.assertIn(str(problem), text)

    def test_a_fault_of_ours_is_in_the_log_and_not_on_the_page(self) -> None:
        reader = ask(self.site())
        self.rounds[0].errback(ZeroDivisionError("secret"))
        status, _, text = said(reader)
        self.assertEqual((status, text), (503, "the relay could not answer; its log says why\n"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_page_for_this_machine_is_not_told_to_names_of_others(self) -> None:
        site = self.site(frozenset({"localhost", "mx.test"}))
        for host in ("evil.example", "evil.example:9125", "localhost.evil.example", "127.0.0.1.evil.example"):
            self.assertEqual(read(site, host=host)[0], 403, host)
        self.assertEqual(self.rounds, [])
        for host in ("127.0.0.1:9125", "[::1]:9125", "localhost:9125", "LOCALHOST", "mx.test:9125", "192.0.2.1"):
            leave(ask(site, host=host))
        self.assertEqual(len(self.rounds), 1)


class ListeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.real = RealReactor()
        self.addCleanup(self.real.close)
        self.addCleanup(self.real.forget_timers)

    def hosts(self, address: str) -> frozenset[str] | None:
        port = open_page(self.real.reactor, listen_address(address), lambda: Desk(), "mx.test")
        page = port.factory.wrappedFactory.resource
        self.assertIsInstance(page, MetricsPage)
        found: frozenset[str] | None = page._hosts
        return found

    def test_who_listens_for_others_is_asked_by_any_name(self) -> None:
        self.assertEqual(self.hosts("127.0.0.1:0"), frozenset({"localhost", "mx.test"}))
        self.assertIsNone(self.hosts("0.0.0.0:0"))
