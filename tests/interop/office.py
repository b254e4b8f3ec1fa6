"""
A relay for people: listeners with TLS of every kind, certificates of an authority of the tests', users and passwords.

What a user sends to `elsewhere.test` lies in Maildirs of a folder of its own; nobody else may send there.
"""

from __future__ import annotations

import ssl
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

import trustme

from tests.interop.house import BOXES, InteropTestCase, arrived, temporary
from tests.interop.mails import assert_same, trace, without_trace
from tests.interop.peers import run
from tests.system.harness import BIN, RelayProcess, configuration

#: Who has signed the certificates of servers.
AUTHORITY: Final = trustme.CA(organization_name="Servers of the tests")
#: Below it, as authorities have them that are on the Internet.
INTERMEDIATE: Final = AUTHORITY.create_child_ca()
#: Who has signed those of clients.
PEOPLE: Final = trustme.CA(organization_name="People of the tests")
#: In which nobody believes.
STRANGERS: Final = trustme.CA(organization_name="Strangers")

#: Users of the relay, and their passwords.
USERS: Final = {"ann": "correct horse", "jürgen": "Grüße, 100 %"}

LISTENERS: Final = """
[[listener]]
name = "mx"
address = "127.0.0.1:0"
tls = "offer"
also = ["BINARYMIME"]
xclient = ["127.0.0.0/8"]
[[listener]]
name = "modern"
address = "127.0.0.1:0"
tls = "offer"
minimum_tls = "1.3"
[[listener]]
name = "known"
address = "127.0.0.1:0"
tls = "require"
client_authorities = "people.pem"
[[listener]]
name = "submission"
address = "127.0.0.1:0"
protocol = "submission"
tls = "require"
verify = "authenticated"
expand = true
client_authorities = "people.pem"
[[listener]]
name = "submissions"
address = "127.0.0.1:0"
protocol = "submission"
tls = "implicit"
[[listener]]
name = "lmtp"
address = "127.0.0.1:0"
protocol = "lmtp"
tls = "offer"
[[listener]]
name = "socket"
address = "unix:lmtp.sock"
protocol = "lmtp"
[[listener]]
name = "proxied"
address = "127.0.0.1:0"
tls = "offer"
proxy = ["127.0.0.0/8"]
"""

#: There are more wrong passwords in these tests than anybody has in ten minutes.
TABLES: Final = """
[tls]
certificates = ["servers"]
[auth]
passwords = "users"
[limits]
auth_failures_per_address = 10000
"""

OUTBOX: Final = """
[[policy]]
name = "outbox"
use = "mailbox"
domains = ["elsewhere.test"]
users = "any"
directory = "out"
when = { authenticated = true }
"""


def write_certificate(
    path: Path, *names: str, common_name: str | None = None, by: trustme.CA = AUTHORITY, until: datetime | None = None
) -> Path:
    """A certificate with its key, in one file that only its owner can read."""
    issued = by.issue_cert(*names, common_name=common_name, not_after=until)
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return path


def write_authority(path: Path, authority: trustme.CA = AUTHORITY) -> Path:
    path.write_bytes(authority.cert_pem.bytes())
    return path


def furnish(folder: Path) -> None:
    """Put into a relay's folder what its configuration names. `mx.test` is the first certificate."""
    write_certificate(folder / "servers/a.pem", "mx.test", "127.0.0.1", "localhost")
    write_certificate(folder / "servers/b.pem", "mail.example", by=INTERMEDIATE)
    write_authority(folder / "ca.pem")
    write_authority(folder / "people.pem", PEOPLE)
    write_certificate(folder / "ann.pem", "ann.client.test", common_name="ann", by=PEOPLE)
    write_certificate(folder / "stranger.pem", "ann.client.test", common_name="ann", by=STRANGERS)
    users = folder / "users"
    users.touch(mode=0o600)
    users.write_bytes(_users())


@cache
def _users() -> bytes:
    """The file of passwords, as `relayctl` has written it once: argon2 takes its time."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        path = Path(folder) / "users"
        for user, password in USERS.items():
            run(BIN / "relayctl", "passwd", "--file", path, "--stdin", user, stdin=f"{password}\n".encode())
        return path.read_bytes()


def believing() -> ssl.SSLContext:
    """What a client has that believes in our authority."""
    return ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())


def _text(tables: str = TABLES, policies: str = "") -> str:
    return configuration(tables=tables + LISTENERS, policies=policies + BOXES + OUTBOX)


#: The relay that the classes of a module share, while there is one, and what has to be done when they have ended.
_office: list[RelayProcess] = []
_closing = ExitStack()


def close_office() -> None:
    """Stop the relay that the classes of a module have shared, and look at its log."""
    _office.clear()
    _closing.close()


class OfficeTestCase(InteropTestCase):
    """Tests with such a relay."""

    office: ClassVar[RelayProcess]

    @classmethod
    def setUpClass(cls) -> None:
        """One relay serves all classes of a module that are content with it as it is."""
        closing = getattr(sys.modules[cls.__module__], "tearDownModule", None)
        assert closing is close_office, "say tearDownModule = close_office in this module"
        if not _office:
            folder = temporary(_closing.callback)
            furnish(folder)
            _office.append(RelayProcess(folder, _text()))
            _closing.callback(_office[0].close)
            _office[0].start()
        [cls.office] = _office

    @classmethod
    def opened(
        cls, *, tables: str = TABLES, policies: str = "", modules: Mapping[str, str] | None = None
    ) -> RelayProcess:
        """One of the class's own, which runs until it has ended. Its policies come first; `modules` are theirs."""
        folder = cls.shared_folder()
        furnish(folder)
        for name, code in (modules or {}).items():
            (folder / f"{name}.py").write_text(code)
        relay = RelayProcess(folder, _text(tables, policies))
        cls.addClassCleanup(relay.close)
        relay.start()
        return relay

    def host_and_port(self, listener: str) -> tuple[str, str]:
        """Of one of its listeners, as they stand in a command."""
        host, port = self.office.address(listener)
        return host, str(port)

    @property
    def authority(self) -> Path:
        """The file in which a client finds whom to believe."""
        return self.office.folder / "ca.pem"

    def written(self, octets: bytes) -> Path:
        path = self.folder() / "message"
        path.write_bytes(octets)
        return path

    def in_mailbox(self, user: str, count: int = 1) -> list[bytes]:
        """What somebody at `localhost` has got, when it is so much."""
        return arrived(self.office.folder / "mail" / user, count)

    def sent_out(self, user: str, count: int = 1) -> list[bytes]:
        """What somebody at `elsewhere.test` has got."""
        return arrived(self.office.folder / "out" / user, count)

    def assertCame(self, octets: bytes, expected: bytes, how: bytes) -> None:
        """That a message arrived as it was sent, with this protocol in its `Received` field (RFC 3848)."""
        assert_same(without_trace(octets), expected)
        self.assertIn(b" with %s id " % how, trace(octets)[-1])
