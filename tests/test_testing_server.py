"""`relay.testing.server` and its fixture: a relay on a port, for other people's tests."""

from __future__ import annotations

import asyncio
import os
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.errors import ConfigurationError
from relay.config.fields import Section
from relay.interfaces import IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Forward
from relay.testing import server as testing_server
from relay.testing.server import RelayServer

HELLO = "Subject: hello\r\n\r\n.Hi!\r\n"


class ClosedOptions(Section):
    recipients: tuple[str, ...] = ()


@implementer(IRoutingPolicy)
class Closed:
    Options = ClosedOptions

    def __init__(self, options: Any, world: Any) -> None:
        self._recipients = options.recipients

    def route(self, inquiry: Any) -> Any:
        if str(inquiry.recipient) in self._recipients:
            return Delay(Reply.of(450, "4.2.1", "closed"), "it is closed")
        return ABSTAIN


@implementer(IRoutingPolicy)
class Resolving:
    """Takes whom the DNS knows and a server says yes to."""

    def __init__(self, options: Any, world: Any) -> None:
        self._world = world

    async def route(self, inquiry: Any) -> Any:
        answer = await self._world.resolver.look_up(inquiry.recipient.domain, "MX")
        said = await self._world.http.request("GET", "https://list.example/jon")
        return Forward(answer.records[0].exchanger, because=said.body.decode())


@implementer(IRoutingPolicy)
class CallsForward:
    """Asks another relay, as one does who wants to know whether a recipient is there."""

    blocking = True
    port = 0

    def __init__(self, options: Any, world: Any) -> None:
        pass

    def route(self, inquiry: Any) -> Any:
        if self.port:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname="x.example", timeout=10) as client:
                client.ehlo()
        return ABSTAIN


@implementer(IRoutingPolicy)
class StandsStill:
    asked = threading.Event()
    let_go = threading.Event()

    def __init__(self, options: Any, world: Any) -> None:
        pass

    def route(self, inquiry: Any) -> Any:
        self.asked.set()
        self.let_go.wait(60)
        return ABSTAIN


class Unmakeable:
    class Options(Section):
        pass

    def __init__(self, options: Any, world: Any) -> None:
        raise ValueError("it cannot be")


def send(server: RelayServer, *recipients: str, sender: str = "ann@example.org", listener: str | None = None) -> None:
    port = server.port if listener is None else server.ports[listener]
    with smtplib.SMTP(server.host, port, timeout=20) as client:
        client.sendmail(sender, list(recipients), HELLO)


class RelayServerTests(SynchronousTestCase):
    def running(self, *arguments: Any, **more: Any) -> RelayServer:
        server = RelayServer(*arguments, **more).start()
        self.addCleanup(server.stop)
        return server

    def test_what_it_accepts_is_there_when_the_client_hears_250(self) -> None:
        server = self.running()
        send(server, "bob@example.net", "eve@example.com")
        (message,) = server.messages
        self.assertEqual(message.reverse_path, "ann@example.org")
        self.assertEqual(message.recipients, ("bob@example.net", "eve@example.com"))
        self.assertEqual(message.content, HELLO.encode())
        self.assertEqual(message.parsed["Subject"], "hello")
        self.assertIn("Received", message.parsed)
        self.assertEqual(message.envelope.client.address, "127.0.0.1")

    def test_the_null_reverse_path_is_nobody(self) -> None:
        server = self.running()
        send(server, "bob@example.net", sender="")
        self.assertIsNone(server.messages[0].reverse_path)

    def test_nothing_is_carried_away_and_the_way_that_it_would_go_is_known(self) -> None:
        server = self.running(policies=[{"use": "forward", "next_hop": "127.0.0.1", "port": 1}])
        send(server, "bob@example.net")
        (route,) = server.messages[0].routes.values()
        self.assertIsInstance(route, Forward)
        self.assertEqual([line["event"] for line in server.log], ["accepted"])

    def test_policies_may_be_classes_with_their_options(self) -> None:
        server = self.running(policies=[{"use": Closed, "recipients": ["bob@example.net"]}, {"use": "discard"}])
        refused = self.assertRaises(smtplib.SMTPRecipientsRefused, send, server, "bob@example.net")
        code, text = refused.recipients["bob@example.net"]
        self.assertEqual((code, text[:12]), (450, b"4.2.1 closed"))
        send(server, "ann@example.net")
        self.assertEqual(server.messages, [])  # it was discarded
        self.assertEqual([line["event"] for line in server.log], ["refused", "accepted", "discarded"])

    def test_a_class_alone_is_a_policy_without_options(self) -> None:
        server = self.running(policies=[Closed])
        self.assertRaises(smtplib.SMTPRecipientsRefused, send, server, "bob@example.net")

    def test_it_tells_why(self) -> None:
        server = self.running(policies=[{"use": Closed, "recipients": ["bob@example.net"]}])
        refused = self.assertRaises(smtplib.SMTPRecipientsRefused, send, server, "bob@example.net")
        _, text = refused.recipients["bob@example.net"]
        told = "\n".join(server.why(text.decode().rpartition("[ref ")[2].rstrip("]")))
        self.assertIn("because    it is closed", told)
        self.assertEqual(server.why("7K3QX2"), [])

    def test_policies_find_the_dns_and_the_servers_of_the_test(self) -> None:
        names = {"example.net": {"MX": [(10, "mx.example.net")]}}
        server = self.running(policies=[Resolving], names=names, http={"https://list.example/jon": b"yes"})
        send(server, "bob@example.net")
        self.assertEqual(server.messages[0].routes, {"bob@example.net": Forward("mx.example.net", "yes")})
        self.assertEqual(server.names.asked, [("example.net", "MX")])
        self.assertEqual([asked.url for asked in server.http.asked], ["https://list.example/jon"])

    def test_tables_are_those_of_the_test(self) -> None:
        alias = {"use": "alias", "table": "aliases"}
        text = '[[table]]\nname = "aliases"\nfile = "/nowhere/aliases"\n[[policy]]\nuse = "discard"\n'
        text += 'when = { recipient = ["nobody.example"] }\n'
        for configuration in "", text:
            tables = {"aliases": {"Team@example.net": "ann@example.org, bob@example.org"}}
            server = self.running(configuration, policies=[alias, {"use": "console"}], tables=tables)
            send(server, "team@example.net")
            self.assertEqual(set(server.messages[0].routes), {"ann@example.org", "bob@example.org"})
        wrong = RelayServer(policies=[alias], tables={"aliases": {"team": ""}})
        self.assertRaises(ConfigurationError, wrong.start)
        self.assertRaises(ConfigurationError, RelayServer(policies=[alias], tables={"other": {}}).start)

    def test_each_listener_of_a_configuration_has_a_port(self) -> None:
        server = self.running(
            """
            [[listener]]
            name = "one"
            address = "192.0.2.1:25"
            [[listener]]
            name = "two"
            address = "unix:/run/nowhere/smtp.sock"
            [[policy]]
            use = "reject"
            when = { listener = ["one"] }
            [[policy]]
            use = "console"
            """
        )
        self.assertRaises(smtplib.SMTPRecipientsRefused, send, server, "bob@example.net", listener="one")
        send(server, "bob@example.net", listener="two")
        self.assertEqual([message.envelope.client.listener for message in server.messages], ["two"])

    def test_a_configuration_may_be_a_file_to_which_paths_are_relative(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "aliases").write_text("team@here.example ann@here.example bob@here.example\n")
            file = Path(folder) / "site.toml"
            file.write_text('[[policy]]\nuse = "alias"\nfile = "aliases"\n[[policy]]\nuse = "console"\n')
            server = self.running(file)
            send(server, "team@here.example")
        (message,) = server.messages
        self.assertEqual(message.recipients, ("team@here.example",))
        self.assertEqual(set(message.routes), {"ann@here.example", "bob@here.example"})

    def test_users_log_in_where_there_is_tls(self) -> None:
        configuration = """
            [[listener]]
            name = "start"
            address = "127.0.0.1:587"
            protocol = "submission"
            tls = "offer"
            [[listener]]
            name = "wrapped"
            address = "127.0.0.1:465"
            protocol = "submission"
            tls = "implicit"
            """
        server = self.running(configuration, users={"ann": "secret"})
        context = ssl._create_unverified_context()
        with smtplib.SMTP(server.host, server.ports["start"], timeout=20) as client:
            client.starttls(context=context)
            self.assertRaises(smtplib.SMTPAuthenticationError, client.login, "ann", "wrong")
            client.login("ann", "secret")
            client.sendmail("ann@example.org", ["bob@example.net"], HELLO)
        with smtplib.SMTP_SSL(server.host, server.ports["wrapped"], timeout=20, context=context) as client:
            client.login("ann", "secret")
            client.sendmail("ann@example.org", ["bob@example.net"], HELLO)
        self.assertEqual([message.envelope.client.user for message in server.messages], ["ann", "ann"])

    def test_where_users_are_named_the_usual_listener_has_tls(self) -> None:
        server = self.running(users={"ann": "secret"})
        with smtplib.SMTP(server.host, server.port, timeout=20) as client:
            client.starttls(context=ssl._create_unverified_context())
            self.assertEqual(client.login("ann", "secret")[0], 235)

    def test_without_users_those_of_the_configuration_count(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            missing = Path(folder) / "site.toml"
            missing.write_text(
                '[auth]\npasswords = "passwords"\n[[listener]]\naddress = "127.0.0.1:587"\ntls = "offer"\n'
            )
            self.assertIn("no such file", str(self.assertRaises(ConfigurationError, self.running, missing)))

    def test_a_configuration_that_is_wrong_is_told_as_the_relay_tells_it(self) -> None:
        for policies, said in (
            ([{"use": "reject", "txt": "no"}], "policy.1.txt: unknown key"),
            ([{"use": Unmakeable}], "it cannot be"),
        ):
            self.assertIn(said, str(self.assertRaises(ConfigurationError, self.running, policies=policies)))

    def test_a_class_that_no_configuration_can_name_is_a_mistake(self) -> None:
        class Local(Closed):
            pass

        self.assertIn("within a function", str(self.assertRaises(ValueError, self.running, policies=[Local])))

    def test_a_server_that_does_not_run_says_so(self) -> None:
        server = RelayServer()
        self.assertRaises(RuntimeError, lambda: server.port)
        with server:
            self.assertGreater(server.port, 0)
        self.assertRaises(RuntimeError, lambda: server.messages)
        server.stop()  # and does nothing

    def test_it_starts_in_less_than_a_tenth_of_a_second_and_leaves_nothing_open(self) -> None:
        def once() -> float:
            began = time.perf_counter()
            with RelayServer() as server, smtplib.SMTP(server.host, server.port, timeout=20):
                return time.perf_counter() - began

        once()
        before = len(os.listdir("/proc/self/fd"))
        took = [once() for _ in range(20)]
        self.assertLess(min(took), 0.1)
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)

    def test_connections_end_with_it(self) -> None:
        server = self.running()
        with socket.create_connection((server.host, server.port), timeout=20) as client:
            self.assertEqual(client.recv(3), b"220")
            where = (server.host, server.port)
            server.stop()
            while client.recv(1000):
                pass
        self.assertRaises(ConnectionRefusedError, socket.create_connection, where)

    def test_several_run_side_by_side(self) -> None:
        one, two = self.running(), self.running()
        send(one, "bob@example.net")
        self.assertEqual((len(one.messages), len(two.messages)), (1, 0))

    def test_of_one_that_cannot_start_nothing_is_left(self) -> None:
        def folders() -> set[Path]:
            return set(Path(tempfile.gettempdir()).glob("relay-test-*"))

        def timers() -> int:
            return len(first._do(first._ground.reactor.getDelayedCalls))  # type: ignore[union-attr]

        with RelayServer() as first:
            before = timers(), folders()
            for _ in range(3):
                wrong = RelayServer(policies=[Unmakeable], users={"ann": "secret"})
                self.assertRaises(ConfigurationError, wrong.start)
            self.assertEqual((timers(), folders()), before)

    def test_a_policy_that_blocks_has_a_thread_and_may_ask_another_relay(self) -> None:
        CallsForward.port = self.running().port
        outer = self.running(policies=[CallsForward, {"use": "console"}])
        send(outer, "bob@example.net")
        self.assertEqual(len(outer.messages), 1)

    def test_a_policy_that_never_lets_go_of_the_reactor_is_told_and_others_have_another_one(self) -> None:
        StandsStill.let_go.clear()
        self.addCleanup(StandsStill.let_go.set)
        server = RelayServer(policies=[StandsStill]).start()
        with socket.create_connection((server.host, server.port), timeout=20) as client:
            client.sendall(b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n")
            self.assertTrue(StandsStill.asked.wait(20))
            impatient = self.patch(testing_server, "_PATIENCE", 0.5)
            problem = self.assertRaises(RuntimeError, server.stop)
            impatient.restore()
            self.assertIn("stands still", str(problem))
            self.assertIn("StandsStill.route", str(problem))
            send(self.running(), "bob@example.net")


class BesideOthersTests(SynchronousTestCase):
    def test_asyncio_goes_on_beside_it(self) -> None:
        async def talk(port: int) -> list[bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            heard = [await reader.readline()]
            writer.write(b"QUIT\r\n")
            heard.append(await reader.readline())
            writer.close()
            return heard

        with RelayServer() as server:
            heard = asyncio.run(talk(server.port))
        self.assertEqual([line[:3] for line in heard], [b"220", b"221"])

    def test_it_imports_no_reactor_so_that_the_process_may_have_any(self) -> None:
        program = """
import smtplib, sys
from relay.testing.server import RelayServer
with RelayServer() as server, smtplib.SMTP(server.host, server.port) as client:
    client.sendmail("ann@example.org", ["bob@example.net"], "Subject: hello")
assert len(server.names.asked) == 0
assert "twisted.internet.reactor" not in sys.modules
from twisted.internet import asyncioreactor
asyncioreactor.install()
"""
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))


TESTS = """
import smtplib
import pytest

def refused(server):
    with smtplib.SMTP(server.host, server.port) as client:
        client.ehlo()
        client.mail("ann@example.org")
        return client.rcpt("bob@example.net")[0]

def test_by_itself_it_takes_everything(relay_server):
    with smtplib.SMTP(relay_server.host, relay_server.port) as client:
        client.sendmail("ann@example.org", ["bob@example.net"], "Subject: hello")
    assert relay_server.messages[0].recipients == ("bob@example.net",)

def test_it_is_a_new_one_for_each_test(relay_server):
    assert relay_server.messages == []

@pytest.mark.relay(policies=[{"use": "reject", "code": 551}])
class TestMarked:
    def test_a_mark_says_what_it_is_like(self, relay_server):
        assert refused(relay_server) == 551

    @pytest.mark.relay('[[policy]]\\nuse = "reject"\\ncode = 552')
    def test_the_nearest_one_counts(self, relay_server):
        assert refused(relay_server) == 552

def test_there_may_be_several(make_relay_server):
    one, two = make_relay_server(), make_relay_server(policies=[{"use": "reject"}])
    assert (refused(one), refused(two)) == (250, 550)
"""


class FixtureTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def pytest(self, tests: str, *words: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "test_mail.py").write_text(tests)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "relay.testing.pytest_plugin", "-p", "no:cacheprovider"]
        return subprocess.run(
            [*command, "--strict-markers", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_tests_get_a_relay_by_its_name(self) -> None:
        ran = self.pytest(TESTS)
        self.assertIn("5 passed", ran.stdout, ran.stdout + ran.stderr)

    def test_a_run_that_wants_no_relay_does_not_import_it(self) -> None:
        ran = self.pytest(
            "import sys\ndef test_nothing():\n    assert not {'twisted', 'relay.testing.server'} & set(sys.modules)\n"
        )
        self.assertIn("1 passed", ran.stdout, ran.stdout + ran.stderr)

    def test_it_is_told_among_the_fixtures_and_marks(self) -> None:
        self.assertIn("relay_server", self.pytest("", "--fixtures").stdout)
        self.assertIn("@pytest.mark.relay(configuration", self.pytest("", "--markers").stdout)
