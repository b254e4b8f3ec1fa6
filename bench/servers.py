"""The relay and Postfix, each with a configuration that the report shows; what all servers have; and the sink."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from bench.machine import Memory, Stat, family, memory_of, used_exactly
from bench.scenarios import Durability, Route
from bench.trees import HERE, OURS, Tree, revision
from relay.net.tls_selfmade import own_certificate
from tests.interop.peers import Server, free_port, run
from tests.interop.postfix import Postfix


class Measured(ABC):
    """A server that runs, until `stop`."""

    name: str
    #: What its 250 is worth, by route.
    durable: ClassVar[Mapping[Route, Durability]]
    #: Whether it is measured with every load, and not only where one of its routes is.
    always: ClassVar = False

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    @property
    def routes(self) -> frozenset[Route]:
        return frozenset(self.durable)

    @property
    @abstractmethod
    def version(self) -> str:
        """Which one it is."""

    @property
    @abstractmethod
    def roots(self) -> list[int]:
        """The processes that have started all others of it."""

    @property
    @abstractmethod
    def configuration(self) -> str:
        """What a reader of the figures has to know of how it runs."""

    @property
    def maildir(self) -> Path:
        """Where its mail for `Route.MAILDIR` goes."""
        raise NotImplementedError(f"{self.name} has no mailboxes")

    def recipient(self, route: Route) -> str:
        return f"all@{route.domain}"

    def cpu(self, stats: Mapping[int, Stat]) -> float:
        """Seconds that all its processes have used."""
        return used_exactly(stats, self.roots)

    def memory(self, stats: Mapping[int, Stat]) -> Memory:
        """Of all its processes."""
        return memory_of(family(stats, self.roots))

    def forget(self) -> None:  # noqa: B027  # most servers hold nothing
        """Remove what is held: otherwise a disk would be full of it at last."""

    @abstractmethod
    def stop(self) -> None:
        """End it."""


_RELAY: Final = """\
hostname = "relay.test"
[spool]
path = "spool"
[log]
mail = "mail.log"
[control]
socket = "control.sock"
[[listener]]
address = "127.0.0.1:{port}"
[[policy]]
use = "mailbox"
domains = ["maildir.test"]
users = ["all"]
directory = "mail"
[[policy]]
use = "discard"
when = {{ recipient = ["discard.test"] }}
[[policy]]
use = "quarantine"
when = {{ recipient = ["hold.test"] }}
[[policy]]
use = "forward"
when = {{ client = ["127.0.0.1"] }}
next_hop = "127.0.0.1:{sink}"
"""


#: A file with a certificate and its key.
CERTIFICATE: Final = "certificate.pem"


def tls_settings(folder: Path, tls: str) -> str:
    """Lines of a listener's section by which it has TLS, with a certificate of its own that is made in `folder`."""
    own_certificate("relay.test", folder / CERTIFICATE, time.time())
    return f'tls = "{tls}"\ncertificates = ["{CERTIFICATE}"]\n'


class RelayProcess:
    """The relay of a tree, as an operator starts it."""

    def __init__(self, folder: Path, configuration: str, port: int, tree: Path = HERE) -> None:
        """It listens on `port` by its `configuration`, which may name files in `folder`."""
        (folder / "relay.toml").write_text(configuration)
        twistd = Path(sys.executable).with_name("twistd")
        words = ("--nodaemon", "--pidfile=", "--no_save", "relay", "--config", folder / "relay.toml")
        self._server = Server(folder / "log", sys.executable, twistd, *words, environ={"PYTHONPATH": str(tree)})
        self.pid = self._server.pid
        self._server.wait_for(("127.0.0.1", port))

    def stop(self) -> None:
        self._server.stop()
        said = self._server.said
        if "Traceback" in said:
            raise AssertionError(f"the relay had trouble:\n{said}")


class Relay(Measured):
    """The relay of this tree, or of another one."""

    durable: ClassVar = {
        Route.SINK: Durability.YES,
        Route.MAILDIR: Durability.YES,
        Route.HOLD: Durability.YES,
        Route.DISCARD: Durability.NO,
    }

    def __init__(self, folder: Path, sink: int, tree: Tree = OURS, workers: int = 1) -> None:
        super().__init__(folder, free_port())
        self.name = tree.name if workers == 1 else f"{tree.name}, {workers} workers"
        self._tree = tree.path
        self._text = _RELAY.format(port=self.port, sink=sink)
        if workers != 1:
            self._text += f"[process]\nworkers = {workers}\n"
        self._process = RelayProcess(folder, self._text, self.port, tree.path)

    @property
    def version(self) -> str:
        return revision(self._tree)

    @property
    def roots(self) -> list[int]:
        return [self._process.pid]

    @property
    def configuration(self) -> str:
        return self._text

    @property
    def maildir(self) -> Path:
        return self.folder / "mail/all"

    def forget(self) -> None:
        relayctl = Path(sys.executable).with_name("relayctl")
        words = ("queue", "delete", "--state", "held", "--yes", "--socket", str(self.folder / "control.sock"))
        environ = {**os.environ, "PYTHONPATH": str(self._tree)}
        # Status 1: there was none.
        ran = subprocess.run(
            [sys.executable, relayctl, *words], env=environ, capture_output=True, text=True, timeout=300, check=False
        )
        if ran.returncode not in (0, 1):
            raise AssertionError(f"what was held is still there: {ran.stdout}{ran.stderr}")

    def stop(self) -> None:
        self._process.stop()


#: Beside what tests/interop/postfix.py says of it.
_POSTFIX: Final = {
    # Or it slows its clients down when the queue manager has much to do.
    "in_flow_delay": "0",
    # Five hundred sessions, and each may have a process.
    "default_process_limit": "600",
    "smtpd_peername_lookup": "no",
    "virtual_mailbox_domains": Route.MAILDIR.domain,
    # What is held has been synced, and waits for the operator.
    "smtpd_recipient_restrictions": f"check_recipient_access inline:{{{Route.HOLD.domain}=HOLD}}, permit_mynetworks",
}


class PostfixServer(Measured):
    """Postfix as Debian builds it; its queue is durable when it says 250."""

    name = "postfix"
    durable: ClassVar = {Route.SINK: Durability.YES, Route.MAILDIR: Durability.YES, Route.HOLD: Durability.YES}

    def __init__(self, folder: Path, sink: int) -> None:
        super().__init__(folder, free_port())
        settings = {**_POSTFIX, "relayhost": f"[127.0.0.1]:{sink}"}
        self._postfix = Postfix.start(folder, self.port, settings)

    @staticmethod
    def why_not() -> str:
        """Why it cannot be measured here, or ""."""
        if not _is_installed("postfix"):
            return "Postfix is not installed"
        return "" if os.geteuid() == 0 else "only root can start Postfix"

    @property
    def version(self) -> str:
        return run("postconf", "-c", self.folder / "etc", "-h", "mail_version").decode().strip()

    @property
    def roots(self) -> list[int]:
        return [self._postfix.master]

    @property
    def configuration(self) -> str:
        return "".join(f"--- {name}\n{(self.folder / 'etc' / name).read_text()}" for name in ("main.cf", "master.cf"))

    @property
    def maildir(self) -> Path:
        return self.folder / "box/all"

    def forget(self) -> None:
        run("postsuper", "-c", str(self.folder / "etc"), "-d", "ALL", "hold")

    def stop(self) -> None:
        self._postfix.stop()


class Sink:
    """Where mail goes, and is counted: Postfix's smtp-sink, or our own."""

    def __init__(self, folder: Path, *, own: bool) -> None:
        self.folder = folder
        self.port = free_port()
        self._counter = folder / "counter"
        if own or not _is_installed("smtp-sink"):
            self.name = "our own (bench/sink.py)"
            command: tuple[str, ...] = (sys.executable, "-m", "bench.sink", str(self.port))
        else:
            user = ("-u", "nobody") if os.geteuid() == 0 else ()
            self.name = "smtp-sink"
            command = ("smtp-sink", "-c", *user, f"127.0.0.1:{self.port}", "1024")
        self._server = Server(self._counter, *command, environ={"PYTHONPATH": str(HERE)})
        self._server.wait_for(("127.0.0.1", self.port))

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def count(self) -> int:
        """Messages so far."""
        with self._counter.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 200))
            found = re.findall(rb"mesg=(\d+)\r", file.read())
        return int(found[-1]) if found else 0

    def stop(self) -> None:
        self._server.stop()


def clear(maildir: Path) -> None:
    """
    Forget what was delivered: a folder that grows would make each round slower than the one before.

    It is put aside until the end of the run. Where thousands of files were removed a moment ago, ext4 without a journal
    takes half a millisecond to make one: that would be measured instead.
    """
    new = maildir / "new"
    try:
        was = new.stat()
    except FileNotFoundError:
        return
    new.rename(Path(tempfile.mkdtemp(prefix="seen-", dir=maildir.parent)) / "new")
    new.mkdir()
    new.chmod(stat.S_IMODE(was.st_mode))
    os.chown(new, was.st_uid, was.st_gid)


def delivered(maildir: Path) -> int:
    """Messages in a Maildir."""
    try:
        with os.scandir(maildir / "new") as found:
            return sum(1 for _ in found)
    except FileNotFoundError:
        return 0


def _is_installed(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
