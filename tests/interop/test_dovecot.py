"""Dovecot reads the Maildirs while the relay delivers to them."""

from __future__ import annotations

import imaplib
import re
import smtplib
import threading
from typing import ClassVar

import pytest

from tests.interop.dovecot import Dovecot
from tests.interop.house import BOXES, InteropTestCase
from tests.interop.mails import BIG, EIGHT_BIT, PLAIN, assert_same, mail, subject, without_trace
from tests.interop.peers import NOBODY, permit, until
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

#: Dovecot reads nobody's mail as root, so the relay, which root has started, becomes somebody else.
AS_NOBODY = f'[process]\nuser = "{NOBODY}"\n'


class DovecotTests(InteropTestCase):
    relay_process: ClassVar[RelayProcess]
    dovecot: ClassVar[Dovecot]

    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.shared_folder()
        permit(folder, home := folder / "relay")
        cls.relay_process = RelayProcess(home, configuration(tables=AS_NOBODY, policies=BOXES))
        cls.addClassCleanup(cls.relay_process.close)
        cls.relay_process.start()
        cls.dovecot = Dovecot.start(cls.shared_folder(), home / "mail")
        cls.addClassCleanup(cls.dovecot.stop)

    def client(self) -> smtplib.SMTP:
        client = smtplib.SMTP(*self.relay_process.address(), local_hostname="client.test")
        self.addCleanup(client.close)
        return client

    def reader(self, user: str) -> imaplib.IMAP4:
        reader = self.dovecot.reader(user)
        self.addCleanup(reader.logout)
        return reader

    def test_each_message_is_read_as_it_was_sent(self) -> None:
        sent = {**PLAIN, "eight-bit": EIGHT_BIT, "big": BIG}
        client = self.client()
        for octets in sent.values():
            client.sendmail("bob@client.test", ["ann@localhost"], octets)
        reader = self.reader("ann")
        until(lambda: len(uids(reader)) == len(sent), "all are seen")
        for uid in uids(reader):
            octets = fetched(reader, uid)
            assert_same(without_trace(octets), sent[subject(octets)])

    def test_nothing_is_ever_seen_by_halves_or_twice_while_mail_comes(self) -> None:
        count = 300
        body = b"A line of a message that takes more than one write.\r\n" * 400

        def send(first: int) -> None:
            with smtplib.SMTP(*self.relay_process.address(), local_hostname="client.test") as client:
                for number in range(first, count, 4):
                    client.sendmail("bob@client.test", ["jon@localhost"], mail(f"number-{number}", body))

        senders = [threading.Thread(target=send, args=(first,)) for first in range(4)]
        reader = self.reader("jon")
        seen: dict[bytes, str] = {}
        for sender in senders:
            sender.start()

        def all_are_seen() -> bool:
            for uid in uids(reader):
                if uid not in seen:
                    octets = fetched(reader, uid)
                    seen[uid] = subject(octets)
                    assert_same(without_trace(octets), mail(seen[uid], body))
            return len(seen) >= count

        until(all_are_seen, lambda: f"{len(seen)} of {count} are seen", 60)
        for sender in senders:
            sender.join()
        self.assertEqual(sorted(seen.values()), sorted(f"number-{number}" for number in range(count)))
        self.assertEqual(len(uids(reader)), count)
        self.assertNotRegex(self.dovecot.server.said, r"Error:|Warning:")

    def test_what_a_reader_does_to_its_mail_and_what_comes_meanwhile(self) -> None:
        client, reader = self.client(), self.reader("eve")
        for name in ("one", "two"):
            client.sendmail("bob@client.test", ["eve@localhost"], mail(name, b"x\r\n"))
        until(lambda: len(uids(reader)) == 2, "both are seen")
        first, _ = uids(reader)
        # They are delivered at the same time, and either may be seen first.
        gone = subject(fetched(reader, first))
        reader.uid("STORE", first.decode(), "+FLAGS", r"(\Seen \Deleted)")
        reader.expunge()
        client.sendmail("bob@client.test", ["eve@localhost"], mail("three", b"x\r\n"))
        until(lambda: len(uids(reader)) == 2, "the new one is seen")
        self.assertEqual({subject(fetched(reader, uid)) for uid in uids(reader)}, {"one", "two", "three"} - {gone})


def uids(reader: imaplib.IMAP4) -> list[bytes]:
    reader.noop()
    _, [found] = reader.uid("SEARCH", "ALL")
    return list((found or b"").split())


def fetched(reader: imaplib.IMAP4, uid: bytes) -> bytes:
    _, [answer, *_] = reader.uid("FETCH", uid.decode(), "(BODY.PEEK[])")
    assert isinstance(answer, tuple), answer
    head, octets = answer
    announced = re.search(rb"\{(\d+)\}", head)
    assert announced is not None
    assert len(octets) == int(announced[1]), head
    return bytes(octets)
