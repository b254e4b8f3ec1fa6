"""From settings to the TLS of each listener: what is shared, what is made here, what is wrong, and what changes later."""

from __future__ import annotations

import os
from typing import Any

from twisted.logger import Logger

from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.encryption import LOOK_EVERY, OWN_FILE, Encryption
from relay.net.tls_files import Unusable
from tests.test_tls import AUTHORITY, TlsTestCase, issue, octets, visit


def listener(name: str, *keys: str, port: int = 0, tls: str = "offer") -> str:
    return "\n".join(["[[listener]]", f'name = "{name}"', f'address = "127.0.0.1:{port}"', f'tls = "{tls}"', *keys, ""])


class EncryptionCase(TlsTestCase):
    def encryption(self, *parts: str) -> Encryption:
        def note(event: Any) -> None:
            self.logged.append(event["log_level"].name + ": " + event["log_format"].format(**event))

        settings = load(
            "\n".join(parts),
            file="relay.toml",
            base=self.folder,
            hostname="mx.test",
            user="ann",
            option_model=lambda use: None,
        )
        made = Encryption(settings, self.clock, file="relay.toml", log=Logger(observer=note))
        self.addCleanup(made.stop)
        return made

    def problems(self, *parts: str) -> list[str]:
        with self.assertRaises(ConfigurationError) as caught:
            self.encryption(*parts)
        return str(caught.exception).replace(f"{self.folder}/", "").split("\n")

    def shown(self, encryption: Encryption, name: str, asked: str | None = None) -> str:
        return visit(encryption.listeners[name], asked)[0].shown


class ListenerTests(EncryptionCase):
    def test_a_listener_without_tls_has_none_and_needs_no_certificate(self) -> None:
        encryption = self.encryption(listener("plain", tls="none"))
        encryption.start()
        self.assertEqual(encryption.listeners, {})
        self.assertFalse((self.folder / "var").exists())

    def test_listeners_show_their_own_certificates_or_else_those_of_all(self) -> None:
        self.file("all/a.pem", octets(issue("a.test")))
        self.file("all/b.pem", octets(issue("b.test")))
        self.file("c.pem", octets(issue("c.test")))
        encryption = self.encryption(
            '[tls]\ncertificates = ["all"]', listener("mx"), listener("own", 'certificates = ["c.pem"]')
        )
        encryption.start()
        self.assertEqual(self.shown(encryption, "mx"), "a.test")
        self.assertEqual(self.shown(encryption, "mx", "b.test"), "b.test")
        self.assertEqual(self.shown(encryption, "own", "b.test"), "c.test")
        self.assertFalse((self.folder / "var").exists())

    def test_each_has_terms_of_its_own(self) -> None:
        self.file("a.pem", octets(issue("a.test")))
        encryption = self.encryption(
            '[tls]\ncertificates = ["a.pem"]',
            listener("mx"),
            listener("new", 'minimum_tls = "1.3"', 'ciphers = "ECDHE-ECDSA-AES128-SHA"'),
            listener("asks", 'client_authorities = "authority.crt"'),
        )
        mx, new, asks = (encryption.listeners[name].terms for name in ("mx", "new", "asks"))
        self.assertEqual((mx.minimum, mx.request_client_certificate), ("1.2", None))
        self.assertEqual((new.minimum, new.ciphers), ("1.3", "ECDHE-ECDSA-AES128-SHA"))
        self.assertEqual(asks.request_client_certificate, self.authority)

    def test_a_client_is_believed_by_the_authorities_of_its_listener(self) -> None:
        encryption = self.encryption(listener("asks", 'client_authorities = "authority.crt"'))
        encryption.start()
        meeting, _ = visit(encryption.listeners["asks"], identity=issue("ann@example.org"))
        self.assertFalse(meeting.failed)
        self.assertIsNotNone(meeting.server.get_peer_certificate())


class OwnTests(EncryptionCase):
    def test_without_a_certificate_one_is_made_at_the_start_and_the_log_says_so(self) -> None:
        encryption = self.encryption(listener("mx"), listener("people"))
        own = self.folder / "var/tls" / OWN_FILE
        self.assertFalse(own.exists())
        encryption.start()
        self.assertEqual(own.stat().st_mode & 0o777, 0o600)
        self.assertEqual(own.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual([self.shown(encryption, name) for name in ("mx", "people")], ["mx.test", "mx.test"])
        (said,) = self.logged
        self.assertTrue(said.startswith("warn: No certificate is configured for mx, people. "), said)
        self.assertIn(str(own), said)

    def test_it_is_the_same_after_a_restart(self) -> None:
        shown = []
        for _ in range(2):
            encryption = self.encryption(listener("mx"), '[tls]\nown = "mine"')
            encryption.start()
            shown.append((self.folder / "mine" / OWN_FILE).read_bytes())
        self.assertEqual(shown[0], shown[1])

    def test_one_of_an_authority_in_its_place_is_left_alone_and_nobody_is_warned(self) -> None:
        content = octets(issue("mx.example.org"))
        own = self.file(f"var/tls/{OWN_FILE}", content)
        encryption = self.encryption(listener("mx"))
        encryption.start()
        self.assertEqual((own.read_bytes(), self.logged), (content, []))
        self.assertEqual(self.shown(encryption, "mx"), "mx.example.org")

    def test_where_it_cannot_be_written_the_relay_does_not_start(self) -> None:
        self.file("var", b"a file, no folder")
        self.assertRaises(OSError, self.encryption(listener("mx")).start)

    def test_what_stands_there_and_is_of_no_use_is_said(self) -> None:
        self.file(f"var/tls/{OWN_FILE}", AUTHORITY.create_child_ca().cert_pem.bytes())
        self.assertRaises(Unusable, self.encryption(listener("mx")).start)


class WrongTests(EncryptionCase):
    def test_each_problem_has_the_line_of_the_path_to_blame(self) -> None:
        self.file("good.pem", octets(issue("a.test")))
        self.file("open.pem", octets(issue("b.test")), 0o644)
        self.assertEqual(
            self.problems(
                '[tls]\ncertificates = [\n"good.pem",\n"open.pem",\n"absent.pem"]',
                listener("one"),
                listener("two"),
                listener("three", 'certificates = ["authority.crt"]'),
            ),
            [
                "relay.toml:4: tls.certificates.2: open.pem: others can get at this key (chmod o= would mend that)",
                "relay.toml:5: tls.certificates.3: absent.pem: it cannot be read: No such file or directory",
                "relay.toml:20: listener.3.certificates.1: authority.crt: it has no key, and there is no authority.key "
                "beside it",
            ],
        )

    def test_an_empty_folder_is_no_certificate(self) -> None:
        (self.folder / "empty").mkdir()
        self.assertEqual(
            self.problems('[tls]\ncertificates = ["empty"]', listener("mx")),
            ["relay.toml:2: tls.certificates.1: empty: there is no certificate with its key in this folder"],
        )

    def test_authorities_and_ciphers_are_looked_at_before_anybody_connects(self) -> None:
        self.file("words.pem", b"some words")
        self.assertEqual(
            self.problems(listener("mx", 'client_authorities = "words.pem"', 'ciphers = "ROT13"')),
            [
                "relay.toml:5: listener.1.client_authorities: words.pem: there is no certificate in PEM form in it",
                "relay.toml:6: listener.1.ciphers: OpenSSL knows none of the ciphers 'ROT13'",
            ],
        )

    def test_certificates_that_no_listener_shows_are_not_read(self) -> None:
        self.encryption('[tls]\ncertificates = ["absent.pem"]', listener("mx", tls="none"))


class ChangeTests(EncryptionCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.file("a.pem", octets(issue("a.test")))
        self.watched = self.encryption('[tls]\ncertificates = ["a.pem"]', listener("mx"))
        self.watched.start()

    def test_a_new_certificate_is_shown_within_a_minute(self) -> None:
        self.file("a.pem", octets(issue("b.test")))
        self.time.advance(LOOK_EVERY - 1)
        self.assertEqual(self.shown(self.watched, "mx"), "a.test")
        self.time.advance(1)
        self.assertEqual(self.shown(self.watched, "mx"), "b.test")

    def test_or_at_once_when_somebody_asks(self) -> None:
        self.file("a.pem", octets(issue("b.test")))
        self.watched.reread()
        self.assertEqual(self.shown(self.watched, "mx"), "b.test")

    def test_a_broken_one_is_not_and_that_is_said_once_and_to_whoever_asks(self) -> None:
        self.file("a.pem", b"broken")
        self.time.pump([LOOK_EVERY] * 3)
        self.assertEqual(self.shown(self.watched, "mx"), "a.test")
        (said,) = self.logged
        self.assertIn("the old ones go on", said)
        self.watched.reread(aloud=True)
        self.assertEqual(self.logged, [said, said])
        self.file("a.pem", octets(issue("c.test")))
        self.time.advance(LOOK_EVERY)
        self.assertEqual(self.shown(self.watched, "mx"), "c.test")

    def test_nothing_is_looked_at_once_it_is_stopped(self) -> None:
        self.watched.stop()
        self.assertEqual(self.time.getDelayedCalls(), [])

    def test_what_root_can_read_and_the_relay_cannot_is_said_at_the_start(self) -> None:
        later = self.encryption('[tls]\ncertificates = ["a.pem"]', listener("mx"))
        unprivileged = os.geteuid() + 1
        self.patch(os, "geteuid", lambda: unprivileged)
        self.path.unlink()  # tests may run as root, whom no mode keeps from reading
        later.start()
        self.assertEqual(
            self.logged,
            [
                "warn: Root has read this certificate, and the relay will not be able to when it changes: "
                f"{self.path}: it cannot be read: No such file or directory"
            ],
        )
