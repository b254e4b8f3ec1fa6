"""
What clients cost that have said EHLO and then nothing, and how long a new one waits for its greeting meanwhile.

    python -m bench.idle [--sessions 10000] [--tls]

The relay runs as an operator starts it, with higher limits: the report shows its configuration. Memory is the growth of
the process's proportional set (PSS) over what it was at rest. Status 1 says that the target is missed: 60 MB for 10,000
sessions, in proportion for another number, and 100 ms for each of 100 clients that come one after the other. With
`--tls` there is no target.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import Final

from attrs import frozen

from bench.machine import memory, raise_file_limit
from bench.servers import RelayProcess, tls_settings
from bench.trees import HERE
from tests.interop.peers import free_port

#: MB are millions of octets, as in the target.
MB: Final = 1_000_000
_TARGET: Final = 60 * MB / 10_000
_GREETED_WITHIN: Final = 0.1
_GREETINGS: Final = 100
#: Descriptors that a relay needs for other things than sessions.
_OTHER_FILES: Final = 200

_CONFIGURATION: Final = """\
hostname = "relay.test"
[spool]
path = "spool"
[log]
mail = "mail.log"
[control]
socket = "control.sock"
# Higher than the default. Twice the sessions, or the relay would be under stress and close the idle ones early.
[limits]
connections = {connections}
connections_per_address = {connections}
connections_per_minute = {connections}
idle = "1h"
[[listener]]
address = "127.0.0.1:{port}"
{tls}[[policy]]
use = "discard"
when = {{ recipient = ["discard.test"] }}
"""


@frozen
class Crowd:
    """What was measured."""

    sessions: int
    tls: bool
    #: Octets of the relay's process: at rest, with all sessions, and when they have gone.
    before: int
    during: int
    after: int
    #: Seconds until the greeting, of each new client while the others were idle, in order of time.
    greetings: tuple[float, ...]

    @property
    def each(self) -> float:
        """Octets for a session."""
        return (self.during - self.before) / self.sessions

    @property
    def missed(self) -> list[str]:
        """What of the target does not hold, in words."""
        if self.tls:
            return []
        missed = []
        if self.during - self.before > self.sessions * _TARGET:
            missed.append(f"{_mb(self.during - self.before)} MB more than at rest")
        if max(self.greetings) > _GREETED_WITHIN:
            missed.append(f"a greeting after {max(self.greetings) * 1000:.0f} ms")
        return missed

    def __str__(self) -> str:
        cuts = quantiles(self.greetings, n=100)
        shown = (cuts[49], cuts[89], cuts[98], max(self.greetings))
        half, most, nearly, longest = (f"{seconds * 1000:.1f}" for seconds in shown)
        target = "no target" if self.tls else f"at most {_mb(self.sessions * _TARGET)}"
        return (
            f"{self.sessions:,} idle sessions{' in TLS' if self.tls else ''}: {_mb(self.before)} MB at rest, "
            f"{_mb(self.during)} with them, {_mb(self.after)} when they had gone\n"
            f"  {_mb(self.during - self.before)} MB more ({target}), {self.each:,.0f} octets each\n"
            f"  {len(self.greetings)} new clients are greeted in {half} ms (median), {most} (90 %), {nearly} (99 %), "
            f"{longest} (all)"
        )


def _mb(octets: float) -> str:
    return f"{octets / MB:.1f}"


def measure(folder: Path, sessions: int, *, tls: bool = False, tree: Path = HERE) -> Crowd:
    """Start a relay, and see what so many idle sessions cost it. `OSError` if this machine does not permit it."""
    raise_file_limit(sessions + _OTHER_FILES)
    port = free_port()
    text = _CONFIGURATION.format(
        port=port, connections=2 * sessions + 1000, tls=tls_settings(folder, "offer") if tls else ""
    )
    with ExitStack() as stack:
        relay = RelayProcess(folder, text, port, tree)
        stack.callback(relay.stop)
        _greeted(port)  # so that what is loaded for the first client counts as rest
        time.sleep(0.5)
        before = memory(relay.pid)
        words = ["--sessions", str(sessions), *(["--tls"] if tls else []), "127.0.0.1", str(port)]
        crowd = subprocess.Popen(
            [sys.executable, "-m", "bench.crowd", *words],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(crowd.kill)
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        assert crowd.stderr is not None
        if not crowd.stdout.readline():
            raise AssertionError(f"the clients have failed:\n{crowd.stderr.read()}")
        greetings = tuple(_greeted(port) for _ in range(_GREETINGS))
        during = memory(relay.pid)
        if (files := len(os.listdir(f"/proc/{relay.pid}/fd"))) < sessions:
            raise AssertionError(f"the relay has {files} open files only: it has closed sessions")
        crowd.stdin.close()
        crowd.wait(60)
        time.sleep(1)
        return Crowd(sessions, tls, before, during, memory(relay.pid), greetings)


def _greeted(port: int) -> float:
    """Seconds from a client's SYN to the end of its greeting."""
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        greeting = client.makefile("rb").readline()
        took = time.perf_counter() - begun
        if not greeting.startswith(b"220 "):
            raise AssertionError(f"greeted with {greeting!r}")
        client.sendall(b"QUIT\r\n")
        client.recv(100)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.idle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true", help="sessions that have begun TLS by STARTTLS")
    parser.add_argument("--tree", metavar="DIRECTORY", type=Path, default=HERE, help="the relay of another tree")
    said = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="relay-idle-"))
    try:
        measured = measure(folder, said.sessions, tls=said.tls, tree=said.tree)
    except OSError as problem:
        sys.exit(str(problem))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(measured)
    if measured.missed:
        sys.exit(f"The target is missed: {' and '.join(measured.missed)}.")


if __name__ == "__main__":
    main()
