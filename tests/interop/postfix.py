"""
A Postfix of a test's own: its configuration, queue and log in one folder, its sockets on loopback.

The machine's own Postfix, if there is one, never hears of it. Postfix starts as root or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.interop.peers import PATIENCE, Server, permit, run, until

#: Mail for this domain goes to a Maildir, whoever it is for.
DOMAIN: Final = "postfix.test"

#: What a relay on the Internet would say too, but for the names.
MAIN: Final[Mapping[str, str]] = {
    "compatibility_level": "3.6",
    "myhostname": "mx.postfix.test",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "local_transport": "error:no mailboxes here",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "local_header_rewrite_clients": "",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    "virtual_mailbox_domains": DOMAIN,
    "virtual_mailbox_maps": "static:all/",
    "virtual_uid_maps": "static:{uid}",
    "virtual_gid_maps": "static:{uid}",
    "virtual_mailbox_base": "{folder}/box",
    "mailbox_size_limit": "0",
    "virtual_mailbox_limit": "0",
    "message_size_limit": "52428800",
    "queue_directory": "{folder}/queue",
    "data_directory": "{folder}/data",
    "maillog_file": "{folder}/log",
    "maillog_file_prefixes": "{folder}",
}

#: Debian's master.cf with nothing in a chroot, and only what a relay needs.
MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

#: As in `ehlo=2 starttls=1 auth=0/1`: how often it was said, and how often refused.
_COUNTED: Final = re.compile(r"(\w+)=(\d+(?:/\d+)?)")


@frozen
class Postfix:
    """One that runs."""

    folder: Path
    port: int
    server: Server

    @classmethod
    def start(
        cls,
        folder: Path,
        port: int,
        settings: Mapping[str, str] | None = None,
        others: Mapping[int | str, Mapping[str, str]] | None = None,
    ) -> Postfix:
        """
        Start it in `folder`, on a port of 127.0.0.1. `settings` are added to `MAIN`.

        `others` are further ports, and further ways out by name, each with what is different there.
        """
        assert os.geteuid() == 0, "Postfix can only be started by root: run `make interop` as root"
        permit(folder, folder / "box")
        (folder / "queue").mkdir()
        (folder / "data").mkdir()
        shutil.chown(folder / "data", "postfix")
        etc = folder / "etc"
        etc.mkdir()
        uid = (folder / "box").stat().st_uid
        ours = {name: value.format(folder=folder, uid=uid) for name, value in MAIN.items()}
        text = "".join(f"{name} = {value}\n" for name, value in {**ours, **(settings or {})}.items())
        (etc / "main.cf").write_text(text)
        (etc / "master.cf").write_text(
            MASTER.format(port=port) + "".join(_service(*each) for each in (others or {}).items())
        )
        server = Server(folder / "log", "postfix", "-c", etc, "start-fg")
        self = cls(folder, port, server)
        ports = [each for each in others or () if isinstance(each, int)]
        server.wait_for(*(("127.0.0.1", each) for each in (port, *ports)))
        return self

    @property
    def master(self) -> int:
        """The process that starts all others of it."""
        return int((self.folder / "queue/pid/master.pid").read_text())

    def stop(self) -> None:
        self.server.stop(by=("postfix", "-c", str(self.folder / "etc"), "stop"))

    @property
    def log(self) -> str:
        return self.server.said

    @property
    def queued(self) -> int:
        """Messages that it still has."""
        queues = (self.folder / "queue" / name for name in ("maildrop", "incoming", "active", "deferred", "hold"))
        return sum(path.is_file() for queue in queues for path in queue.rglob("*"))

    def delivered(self, count: int, patience: float = PATIENCE) -> list[bytes]:
        """The messages in its Maildir, when there are so many."""
        new = self.folder / "box/all/new"
        until(lambda: count == 0 or (new.is_dir() and len(list(new.iterdir())) >= count), lambda: self.log, patience)
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def sendmail(self, *words: str, stdin: bytes) -> None:
        """Hand it a message as programs of its machine do, with the options of sendmail(1)."""
        run("sendmail", "-C", self.folder / "etc", *words, stdin=stdin)

    def sessions(self, name: str = "") -> list[dict[str, int]]:
        """
        How often each command was said in the sessions of clients that have gone.

        `name` is the `syslog_name` of a port.
        """
        found = re.findall(rf"{name}/smtpd\[\d+\]: disconnect from \S+ (.*)", self.log)
        return [{verb: int(number.partition("/")[0]) for verb, number in _COUNTED.findall(line)} for line in found]


def _service(where: int | str, settings: Mapping[str, str]) -> str:
    """A line of master.cf."""
    options = " ".join(f"-o {{{name}={value}}}" for name, value in settings.items())
    if isinstance(where, int):
        return f"127.0.0.1:{where} inet n - n - - smtpd {options}\n"
    return f"{where} unix - - n - - smtp {options}\n"


def inline(entries: Mapping[str, str]) -> str:
    """A table in main.cf."""
    return "inline:{ " + ", ".join(f"{{ {key} = {value} }}" for key, value in entries.items()) + " }"
