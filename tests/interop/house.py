"""A relay that other programs talk to, in the configuration that most of these tests share."""

from __future__ import annotations

import json
import smtplib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.interop.mails import in_maildir, messages
from tests.interop.peers import PATIENCE, until
from tests.interop.sinks import Sink
from tests.system.harness import RelayProcess, SystemTestCase

#: Any name has a Maildir below `localhost`, and a file below `mbox.test`.
BOXES: Final = """
[[policy]]
name = "maildirs"
use = "mailbox"
domains = ["localhost"]
users = "any"
directory = "mail"
[[policy]]
name = "files"
use = "mailbox"
domains = ["mbox.test"]
users = "any"
format = "mbox"
directory = "mbox"
"""

#: A second listener, for people who end their lines with LF.
LENIENT: Final = """
[[listener]]
name = "lenient"
address = "127.0.0.1:0"
newlines = "lenient"
"""

#: Trouble is over in a moment.
IMPATIENT: Final = '[delivery.retry]\nfirst = "1s"\nmost = "1s"\njitter = 0\n'


def arrived(path: Path, count: int = 1, patience: float = PATIENCE) -> list[bytes]:
    """The messages of a Maildir, when there are `count` of them. `AssertionError` for another number."""
    until(lambda: len(messages(path)) >= count, lambda: f"{len(messages(path))} of {count} in {path}", patience)
    found = in_maildir(path)
    assert len(found) == count, f"{len(found)} in {path}, and not {count}"
    return found


def events(relay: RelayProcess) -> list[dict[str, Any]]:
    """What the mail log has said so far."""
    return [json.loads(line) for line in relay.said(r'^\{"time"')]


def logged(
    relay: RelayProcess, matches: Callable[[dict[str, Any]], object], what: str = "the event", count: int = 1
) -> list[dict[str, Any]]:
    """The events of the mail log that match, when there are `count`."""

    def found() -> list[dict[str, Any]]:
        return [event for event in events(relay) if matches(event)]

    until(lambda: len(found()) >= count, lambda: f"{what}\n{relay.output.text(max(0, relay.mark - 30))}")
    return found()


def forwarding(routes: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Policies: for a recipient's domain, the next hops that are tried in turn."""
    return "".join(
        f'[[policy]]\nuse = "forward"\nwhen = {{ recipient = ["{domain}"] }}\nnext_hop = {json.dumps(list(hops))}\n'
        for domain, hops in routes
    )


def send_chunks(client: smtplib.SMTP, sender: str, recipient: str, octets: bytes, size: int = 100_000) -> None:
    """Send a message by BDAT, which smtplib cannot. `AssertionError` if anything is refused."""
    replies = [client.mail(sender), client.rcpt(recipient)]
    for at in range(0, len(octets), size):
        chunk = octets[at : at + size]
        last = " LAST" if at + size >= len(octets) else ""
        client.send(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
        replies.append(client.getreply())
    assert {code for code, _ in replies} == {250}, replies


class InteropTestCase(SystemTestCase):
    """A test with servers of others, in folders that their users can come to."""

    @classmethod
    def shared_folder(cls) -> Path:
        """A folder that is gone when the class has ended."""
        return temporary(cls.addClassCleanup)

    @classmethod
    def shared_sink(cls, folder: Path, *options: str, host: str = "127.0.0.1", port: int | None = None) -> Sink:
        """An smtp-sink that runs until the class has ended."""
        sink = Sink.start(folder, *options, host=host, port=port)
        cls.addClassCleanup(sink.stop)
        return sink

    def folder(self) -> Path:
        return temporary(self.addCleanup)

    def sink(self, *options: str, host: str = "127.0.0.1", port: int | None = None) -> Sink:
        """An smtp-sink that runs until the test has ended, or until it is stopped."""
        sink = Sink.start(self.folder(), *options, host=host, port=port)
        self.addCleanup(sink.stop)
        return sink


def temporary(add_cleanup: Callable[..., object]) -> Path:
    """A folder to which servers can come that are no longer root, until it is cleaned up."""
    directory = tempfile.TemporaryDirectory(prefix="relay-interop-")
    add_cleanup(directory.cleanup)
    path = Path(directory.name)
    path.chmod(0o755)
    return path
