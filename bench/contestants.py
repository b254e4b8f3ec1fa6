"""Who is measured: all of them started, and those named that cannot be, with the reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from attrs import field, frozen

from bench.peers.aiosmtpd import Aiosmtpd
from bench.peers.haraka import Haraka
from bench.peers.nothing import Ceiling
from bench.peers.twisted_mail import TwistedMail
from bench.servers import Measured, PostfixServer, Relay, Sink
from bench.trees import HERE, checked_out

#: Seconds for packages to come; what has not come by then is not measured.
_PATIENCE: Final = 600


@frozen
class Contestants:
    """Those that run."""

    servers: tuple[Measured, ...]
    #: By the server's name.
    sinks: dict[str, Sink]
    #: Why others are missing, by their names.
    missing: dict[str, str] = field(factory=dict)

    def why_not(self, name: str) -> str:
        """Why there is nothing of this server, or ""."""
        return self.missing.get(name, "")


@frozen
class Entry:
    """Which of them are wanted."""

    #: Besides one relay: another with so many workers, if they are more than one.
    workers: int = 1
    #: Besides: the relay of that revision.
    against: str = ""
    #: Whether the relay's peers are measured, too; those included that have to be installed for it.
    peers: bool = True
    haraka: bool = True
    #: Whether our own sink takes what smtp-sink would.
    own: bool = False

    def begin(self, folder: Path, stack: ExitStack) -> Contestants:
        """Start them, in folders of their own. `stack` ends them."""
        contestants = Contestants((), {})
        running: list[Measured] = []

        def start(name: str, make: Callable[[Path, int], Measured], why_not: str = "") -> None:
            if why_not:
                contestants.missing[name] = why_not
                return
            where = folder / name.replace(" ", "-").replace(",", "")
            where.mkdir()
            sink = Sink(made(where / "sink"), own=self.own)
            stack.callback(sink.stop)
            try:
                server = make(made(where / "server"), sink.port)
            except AssertionError as problem:
                if name == "relay":
                    raise
                contestants.missing[name] = f"it did not start: {str(problem).strip().splitlines()[-1]}"
                return
            stack.callback(server.stop)
            contestants.sinks[server.name] = sink
            running.append(server)

        start("relay", Relay)
        if self.workers > 1:
            start(f"relay, {self.workers} workers", lambda at, sink: Relay(at, sink, workers=self.workers))
        if self.against:
            tree = stack.enter_context(checked_out(self.against, folder))
            start("other", lambda at, sink: Relay(at, sink, tree))
        if self.peers:
            start("postfix", PostfixServer, PostfixServer.why_not())
            start("haraka", Haraka, Haraka.why_not() if self.haraka else "only in a whole run")
            start("aiosmtpd", lambda at, _: Aiosmtpd(at))
            start("twisted.mail", lambda at, _: TwistedMail(at))
            start("smtp-sink", lambda at, _: Ceiling(Sink(made(at / "ceiling"), own=self.own)))
            if running[-1].name != "smtp-sink":
                contestants.missing["smtp-sink"] = "it comes with Postfix; our own sink is the ceiling here"
        return Contestants(tuple(running), contestants.sinks, contestants.missing)


def made(folder: Path) -> Path:
    """A new folder that the servers may come to, whoever they are."""
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def install() -> None:
    """Try to get the peers that are no Python packages. What it met is in `build/peers.log`."""
    script = HERE / "bench/peers/install"
    try:
        subprocess.run([script], stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        sys.stderr.write(f"the peers could not be installed: {problem}\n")


def has_smtp_source() -> bool:
    """Whether Postfix's load generator is here."""
    return shutil.which("smtp-source", path="/usr/sbin:/sbin:/usr/local/sbin") is not None
