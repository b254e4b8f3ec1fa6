"""Mail for elsewhere: by MX to another relay, late to one that was down, and never nowhere."""

from __future__ import annotations

import mailbox
import re
import socket

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import RelayProcess, SystemTestCase, configuration, eventually
from tests.system.names import DnsThread, unused

pytestmark = pytest.mark.system

#: Where the other relay lives.
THERE = "127.0.0.2"
#: Where some of our mail comes from.
SOURCE = "127.0.0.9"

FORWARD = """
[[policy]]
use = "forward"
port = {port}
when = {{ client = ["127.0.0.1"] }}
"""
AWAY = """
[dns]
servers = ["{dns}"]
timeout = "{patience}"
server_timeout = "0.5s"
[delivery]
allow_private = ["127.0.0.0/8"]
[delivery.retry]
first = "1s"
most = "1s"
jitter = 0
"""
EXAMPLE_ORG = """
[[policy]]
use = "mailbox"
domains = ["example.org"]
users = ["alice"]
directory = "mail"
"""


class OnwardTests(SystemTestCase):
    def setUp(self) -> None:
        self.dns = DnsThread({"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": [THERE]}})
        self.addCleanup(self.dns.close)

    def there(self, port: int) -> RelayProcess:
        """The relay of example.org, not started yet."""
        text = configuration(listeners={"mx": f"{THERE}:{port}"}, newlines="strict", policies=EXAMPLE_ORG)
        return self.relay(text.replace("mx.test", "mx.example.org"))

    def here(self, port: int, *, dns: str = "", patience: str = "20s") -> RelayProcess:
        """Our relay, which runs."""
        tables = AWAY.format(dns=dns or self.dns.address, patience=patience)
        return self.started(configuration(tables=tables, policies=FORWARD.format(port=port)))

    def mail(self, relay: RelayProcess) -> list[mailbox.MaildirMessage]:
        return list(mailbox.Maildir(relay.folder / "mail" / "alice", create=False))

    def test_the_mx_of_a_domain_is_looked_up_and_the_relay_there_gets_the_mail(self) -> None:
        there = self.there(0)
        there.start()
        here = self.here(there.address("mx")[1])
        with Telnet(here.address(), newline=b"\n") as client:
            heard = client.envelope("bob@client.test", "alice@example.org", "nobody@example.org")
            self.assertEqual([reply[:3] for reply in heard], ["250", "250"])
            id = queue_id(client.content("by MX"))
        relayed = here.event("relayed", id, recipient="alice@example.org")
        self.assertIn(THERE, str(relayed))
        there.event("delivered", recipient="alice@example.org")
        [kept] = self.mail(there)
        self.assertEqual(kept["Subject"], "by MX")
        self.assertEqual(len(kept.get_all("Received")), 2)
        self.assertEqual(kept.get_payload(), "Hi!\n.\n")
        self.assertIn(("example.org", "MX"), self.dns.asked)
        # Who does not exist there has failed here; there is no way to Bob's server, so his notice waits.
        failed = here.event("failed", id, recipient="nobody@example.org")
        self.assertIn("5.1.1", str(failed))

    def test_one_kind_of_mail_leaves_from_an_address_and_under_a_name_of_its_own(self) -> None:
        there = self.there(0)
        there.start()
        hop = f'use = "forward"\nnext_hop = "{THERE}:{there.address("mx")[1]}"\n'
        bulk = f'source = ["{SOURCE}"]\nhello = "bulk.mx.test"\nwhen = {{ sender = ["news@client.test"] }}\n'
        here = self.started(
            configuration(
                tables=AWAY.format(dns=self.dns.address, patience="20s"),
                policies=f"[[policy]]\n{hop}{bulk}[[policy]]\n{hop}",
            )
        )
        with Telnet(here.address()) as client:
            for sender in "news@client.test", "bob@client.test":
                client.envelope(sender, "alice@example.org")
                here.event("relayed", queue_id(client.content(sender)))
        eventually(lambda: len(list((there.folder / "mail/alice/new").glob("*"))) == 2)
        received = {mail["Subject"]: mail.get_all("Received")[0] for mail in self.mail(there)}
        self.assertRegex(received["news@client.test"], rf"(?s)from bulk\.mx\.test .*\[{re.escape(SOURCE)}\]")
        self.assertRegex(received["bob@client.test"], r"(?s)from mx\.test .*\[127\.0\.0\.1\]")

    def test_an_address_that_is_not_ours_is_said_aloud_and_its_mail_waits(self) -> None:
        policy = f'[[policy]]\nuse = "forward"\nnext_hop = "{THERE}:1"\nsource = "192.0.2.77"\n'
        here = self.started(configuration(tables=AWAY.format(dns=self.dns.address, patience="20s"), policies=policy))
        here.wait_for("sends from 192.0.2.77, which is no address of this machine now", since=0)
        with Telnet(here.address()) as client:
            delayed = str(here.event("delayed", queue_id(client.post("alice@example.org"))))
        # The host was not asked, and is none the worse for it.
        for word in "4.3.5", "ourselves", "could not open a connection":
            self.assertIn(word, delayed)

    def test_a_restart_recovers_what_waits_for_a_domain_that_is_down(self) -> None:
        port = unused(THERE)
        here, there = self.here(port), self.there(port)
        with Telnet(here.address()) as client:
            id = queue_id(client.post("alice@example.org", subject="kept over a restart"))
        here.event("delayed", id)
        here.stop()
        here.start()
        here.event("delayed", id, since=here.began)
        here.kill()
        there.start()
        here.start()
        here.event("relayed", id)
        there.event("delivered", recipient="alice@example.org")
        self.assertEqual([mail["Subject"] for mail in self.mail(there)], ["kept over a restart"])

    def test_a_dns_server_that_is_down_or_silent_delays_mail_and_loses_none(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            port = silent.getsockname()[1]
            here = self.here(25, dns=f"127.0.0.1:{port}", patience="0.5s")
            with Telnet(here.address()) as client:
                id = queue_id(client.post("alice@example.org"))
                delayed = here.event("delayed", id)
                self.assertIn("example.org", delayed["because"] + delayed.get("diagnostic", ""))
        # From here on nobody has that port: the kernel says so at once.
        since = here.mark
        here.event("delayed", id, since=since)
        with Telnet(here.address()) as client:
            client.post("alice@example.org")

    def test_mail_to_an_address_of_this_machine_that_no_setting_allows_is_not_sent_there(self) -> None:
        tables = AWAY.format(dns=self.dns.address, patience="20s").replace('allow_private = ["127.0.0.0/8"]', "")
        here = self.started(configuration(tables=tables, policies=FORWARD.format(port=unused(THERE))))
        with Telnet(here.address()) as client:
            client.envelope("", "alice@example.org")
            id = queue_id(client.content())
        self.assertIn(THERE, str(here.event("failed", id)))
