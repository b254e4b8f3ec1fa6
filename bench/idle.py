"""
What clients cost that have said EHLO and then nothing, and how long a new one waits for its greeting meanwhile.

    python -m bench.idle [--sessions 10000] [--tls]

The relay runs as an operator starts it, with higher limits: the report shows its configuration. Memory is the growth of
the process's proportional set (PSS) over what it was at rest. Status 1 says that the target is missed: 60 MB for 10,000
sessions, in proportion for another number, and 100 ms for each of 100 clients that come one after the other. With
`--tls` there is no target.

The target table has the idle process, too: what is in memory of it (RSS), shared libraries and all, since it is to be
true on a machine that runs no other Python. What an interpreter has by itself, and one that has loaded Twisted's
twistd, its reactor and its TLS, stands beside it.
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
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from attrs import frozen

from bench.machine import memory, memory_of, raise_file_limit
from bench.servers import Relay, RelayProcess, tls_settings
from bench.targets import Line, Round
from bench.trees import HERE
from tests.interop.peers import free_port

#: MB are millions of octets, as in the target.
MB: Final = 1_000_000
_TARGET: Final = 60 * MB / 10_000
_AT_REST: Final = 60 * MB
#: Seconds until a process that has nothing to do is at rest.
_SETTLED: Final = 2.0
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


@frozen
class Rest:
    """Octets of a process that has nothing to do: in memory, and with only its part of what is shared."""

    rss: int
    pss: int


def at_rest(folder: Path) -> Rest:
    """The relay of the other figures, with no client yet."""
    relay = Relay(folder, free_port())
    try:
        time.sleep(_SETTLED)
        [pid] = relay.roots
        found = memory_of([pid])
        return Rest(found.rss, found.pss)
    finally:
        relay.stop()


def bare(imports: str = "") -> Rest:
    """An interpreter that has loaded these modules and no more."""
    code = f"{imports}\nimport sys\nprint(flush=True)\nsys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        found = memory_of([process.pid])
        assert process.stdin is not None
        process.stdin.close()
    return Rest(found.rss, found.pss)


def targets(given: Round) -> list[Line]:
    """The idle process, 10,000 idle sessions, and how a new client is greeted meanwhile."""
    rounds = range(1 if given.smoke else given.rounds)
    rests = [at_rest(_made(given.folder / f"rest{number}")) for number in rounds]
    bases = bare(), bare("import twisted.application.app, twisted.internet.epollreactor, twisted.protocols.tls")
    sessions = 100 if given.smoke else 10_000
    crowds = []
    for number in rounds:
        given.say(f"{sessions:,} idle sessions, round {number + 1}")
        crowds.append(measure(_made(given.folder / f"crowd{number}"), sessions))
    return [rest_line(rests, *bases), *crowd_lines(crowds)]


def rest_line(rests: Sequence[Rest], python: Rest, twisted: Rest) -> Line:
    """What has become of the target for the idle process."""
    octets = [rest.rss for rest in rests]
    value = median(octets)
    figure = (
        f"{_mb(value)} MB ({_mb(min(octets))} to {_mb(max(octets))}; PSS {_mb(median(rest.pss for rest in rests))}); "
        f"Python alone {_mb(python.rss)}, twistd with its reactor and TLS {_mb(twisted.rss)}"
    )
    values = {
        "bound": _AT_REST,
        "value": value,
        "rss": octets,
        "pss": [rest.pss for rest in rests],
        "python": python.rss,
        "twisted": twisted.rss,
    }
    return Line("memory: idle process (RSS)", f"<= {_mb(_AT_REST)} MB", figure, value <= _AT_REST, values)


def crowd_lines(crowds: Sequence[Crowd]) -> list[Line]:
    """What has become of the targets for idle sessions."""
    sessions = crowds[0].sessions
    more = [crowd.during - crowd.before for crowd in crowds]
    bound, value = sessions * _TARGET, median(more)
    memory_line = Line(
        f"memory: {sessions:,} idle sessions",
        f"<= {_mb(bound)} MB more",
        f"{_mb(value)} MB ({_mb(min(more))} to {_mb(max(more))}), {value / sessions:,.0f} octets each",
        value <= bound,
        {"bound": bound, "value": value, "octets_more": more},
    )
    longest = [max(crowd.greetings) * 1000 for crowd in crowds]
    halves = [median(crowd.greetings) * 1000 for crowd in crowds]
    greeting = Line(
        f"greeting of a new client beside {sessions:,} idle sessions",
        f"<= {_GREETED_WITHIN * 1000:g} ms, each of {_GREETINGS}",
        f"longest {median(longest):.1f} ms ({min(longest):.1f} to {max(longest):.1f}), median {median(halves):.2f} ms",
        median(longest) <= _GREETED_WITHIN * 1000,
        {"bound": _GREETED_WITHIN * 1000, "value": median(longest), "longest_ms": longest, "median_ms": halves},
    )
    return [memory_line, greeting]


def _made(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o755)
    return folder


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
