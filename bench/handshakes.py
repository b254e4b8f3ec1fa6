"""
How many TLS handshakes a second the relay's listeners do, beside Twisted's own transport with the same certificate.

    python -m bench.handshakes [--handshakes 1000] [--rounds 5] [--version 1.2]

Three servers take turns: the relay; a protocol that does nothing, with the TLS of our listeners ("ours, bare"); and the
same protocol with Twisted's. With new sessions and with resumed ones, by STARTTLS and from the first octet on.

Status 1 says that the target is missed: with new sessions 0.9 of the handshakes a second that Twisted does, and that
resumption works. Where TLS begins at once that is asked of the relay, its greeting included. By STARTTLS it is asked of
our bare TLS, since the relay's figure has a dialogue in it then: a greeting, EHLO twice and their answers. Twisted's
`CertificateOptions` resumes nothing, so that there is nothing to compare resumed sessions with but its new ones.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen

from bench.machine import all_stats, used
from bench.servers import CERTIFICATE, RelayProcess, tls_settings
from bench.trees import HERE
from tests.interop.peers import Server, free_port

_TARGET: Final = 0.9

_CONFIGURATION: Final = """\
hostname = "relay.test"
[spool]
path = "spool"
[log]
mail = "mail.log"
[control]
socket = "control.sock"
# One client is all that there is.
[limits]
connections_per_address = 2000
connections_per_minute = 1000000
[[listener]]
address = "127.0.0.1:{starttls}"
{offer}
[[listener]]
address = "127.0.0.1:{implicit}"
{immediate}
[[policy]]
use = "discard"
when = {{ recipient = ["discard.test"] }}
"""


@frozen
class Kind:
    """What is done."""

    starttls: bool
    resume: bool

    def __str__(self) -> str:
        return f"{'STARTTLS' if self.starttls else 'implicit'}, {'resumed' if self.resume else 'new'} sessions"


@frozen
class Shaken:
    """One run."""

    handshakes: int
    seconds: float
    #: Seconds of CPU that the server has used.
    cpu: float
    #: Handshakes that took up an old session.
    resumed: int

    @property
    def rate(self) -> float:
        """Handshakes a second."""
        return self.handshakes / self.seconds

    @property
    def cpu_each(self) -> float:
        """Milliseconds of CPU."""
        return self.cpu / self.handshakes * 1000


@frozen
class Compared:
    """All rounds of one kind, for each server in the same rounds."""

    kind: Kind
    relay: tuple[Shaken, ...]
    bare: tuple[Shaken, ...]
    twisted: tuple[Shaken, ...]

    @property
    def judged(self) -> float:
        """The ratio that the target is about."""
        return ratio(self.bare if self.kind.starttls else self.relay, self.twisted, _rate)

    @property
    def resumes(self) -> bool:
        """Whether all sessions were taken up that should have been."""
        return not self.kind.resume or all(run.resumed == run.handshakes for run in (*self.relay, *self.bare))

    @property
    def missed(self) -> list[str]:
        """What of the target does not hold, in words."""
        missed = []
        if not self.kind.resume and self.judged < _TARGET:
            missed.append(f"{self.kind}: {self.judged:.2f} of Twisted's")
        if not self.resumes:
            missed.append(f"{self.kind}: not all of them")
        return missed

    def __str__(self) -> str:
        series = (("relay", self.relay), ("ours, bare", self.bare), ("Twisted", self.twisted))
        return "\n".join((str(self.kind), *(_line(name, runs, self.twisted) for name, runs in series)))


def ratio(ours: Sequence[Shaken], theirs: Sequence[Shaken], figure: Callable[[Shaken], float]) -> float:
    """The median of the rounds' ratios. CPU is counted in hundredths of a second, and may be none."""
    pairs = zip(ours, theirs, strict=True)
    return median(figure(one) / figure(other) if figure(other) else inf for one, other in pairs)


def _rate(run: Shaken) -> float:
    return run.rate


def _cpu_each(run: Shaken) -> float:
    return run.cpu_each


def _line(name: str, runs: Sequence[Shaken], twisted: Sequence[Shaken]) -> str:
    line = f"  {name:<12}{median(map(_rate, runs)):8,.0f} a second{median(map(_cpu_each, runs)):9.3f} ms of CPU each"
    resumed = f"{sum(run.resumed for run in runs) / sum(run.handshakes for run in runs):5.0%} resumed"
    if runs is twisted:
        return f"{line}{resumed:>14}"
    times = f"{ratio(runs, twisted, _rate):.2f} of Twisted's rate, {ratio(runs, twisted, _cpu_each):.2f} of its CPU"
    return f"{line}{resumed:>14}   {times}"


@frozen
class _Listening:
    """A server, and where it listens."""

    pid: int
    starttls: int
    implicit: int

    def shaken(self, kind: Kind, handshakes: int, version: str) -> Shaken:
        words = ["--handshakes", str(handshakes), "--version", version]
        words += [*(["--starttls"] if kind.starttls else []), *(["--resume"] if kind.resume else [])]
        words += ["127.0.0.1", str(self.starttls if kind.starttls else self.implicit)]
        before = used(all_stats(), [self.pid])
        ran = subprocess.run(
            [sys.executable, "-m", "bench.shaking", *words],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if ran.returncode:
            raise AssertionError(f"the handshakes have failed: {ran.stderr}")
        time.sleep(0.1)  # connections that are closed are work, too
        seconds, resumed = ran.stdout.split()
        return Shaken(handshakes, float(seconds), used(all_stats(), [self.pid]) - before, int(resumed))


def measured(folder: Path, handshakes: int, rounds: int, version: str = "1.3", tree: Path = HERE) -> Iterator[Compared]:
    """Start the servers, and have them shake hands; each kind when it is done."""
    with ExitStack() as stack:
        starttls, implicit = free_port(), free_port()
        text = _CONFIGURATION.format(
            starttls=starttls,
            implicit=implicit,
            offer=tls_settings(folder, "offer"),
            immediate=tls_settings(folder, "implicit"),
        )
        relay = RelayProcess(folder, text, starttls, tree)
        stack.callback(relay.stop)
        servers = (
            _Listening(relay.pid, starttls, implicit),
            _plain(folder, stack, "--ours"),
            _plain(folder, stack),
        )
        for kind in (Kind(starttls, resume) for starttls in (False, True) for resume in (False, True)):
            runs: dict[_Listening, list[Shaken]] = {server: [] for server in servers}
            for server in servers:
                server.shaken(kind, max(4, handshakes // 10), version)  # to get warm
            for number in range(rounds):
                for server in servers if number % 2 == 0 else reversed(servers):
                    runs[server].append(server.shaken(kind, handshakes, version))
            yield Compared(kind, *(tuple(runs[server]) for server in servers))


def _plain(folder: Path, stack: ExitStack, *words: str) -> _Listening:
    ports = free_port(), free_port()
    command = (sys.executable, "-m", "bench.plain_tls", *words, str(folder / CERTIFICATE), *map(str, ports))
    server = Server(folder / f"plain{len(words)}.log", *command, environ={"PYTHONPATH": str(HERE)})
    stack.callback(server.stop)
    server.wait_for(*(("127.0.0.1", port) for port in ports))
    return _Listening(server.pid, *ports)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.handshakes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--handshakes", type=int, default=1000, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--version", choices=("1.2", "1.3"), default="1.3", help="of TLS")
    parser.add_argument("--tree", metavar="DIRECTORY", type=Path, default=HERE, help="the relay of another tree")
    said = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="relay-handshakes-"))
    missed = []
    try:
        for compared in measured(folder, said.handshakes, said.rounds, said.version, said.tree):
            print(compared, flush=True)
            missed += compared.missed
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if missed:
        sys.exit(f"The target is missed: {'; '.join(missed)}.")


if __name__ == "__main__":
    main()
