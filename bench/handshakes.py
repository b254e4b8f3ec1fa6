"""
How many TLS handshakes a second the relay's listeners do, beside Twisted's own transport with the same certificate.

    python -m bench.handshakes [--handshakes 1000] [--rounds 5] [--version 1.2]

With new sessions and with resumed ones, by STARTTLS and from the first octet on, the two servers in turn. Status 1 says
that the target is missed: with new sessions 0.9 of the handshakes a second that Twisted does, and resumption works.
Twisted's `CertificateOptions` resumes nothing, so that there is nothing to compare resumed sessions with.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
    """All rounds of one kind: ours, and Twisted's in the same rounds."""

    kind: Kind
    ours: tuple[Shaken, ...]
    theirs: tuple[Shaken, ...]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios of handshakes a second."""
        return median(one.rate / other.rate for one, other in zip(self.ours, self.theirs, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """The median of the rounds' ratios of CPU; it is steadier on a machine that does something else besides."""
        return median(one.cpu / (other.cpu or 0.01) for one, other in zip(self.ours, self.theirs, strict=True))

    @property
    def missed(self) -> list[str]:
        """What of the target does not hold, in words."""
        missed = []
        if not self.kind.resume and self.ratio < _TARGET:
            missed.append(f"{self.kind}: {self.ratio:.2f} of Twisted's")
        if self.kind.resume and any(one.resumed < one.handshakes for one in self.ours):
            missed.append(f"{self.kind}: not all of them")
        return missed

    def __str__(self) -> str:
        return "\n".join(
            (
                str(self.kind),
                _line("relay", self.ours),
                _line("Twisted", self.theirs),
                f"  relay : Twisted = {self.ratio:.2f} handshakes/s, {self.cpu_ratio:.2f} CPU each"
                + (f" (Twisted resumed {sum(one.resumed for one in self.theirs)})" if self.kind.resume else ""),
            )
        )


def _line(name: str, runs: Sequence[Shaken]) -> str:
    rate, cpu = median(one.rate for one in runs), median(one.cpu_each for one in runs)
    return f"  {name:<10}{rate:10,.0f} a second{cpu:10.3f} ms of CPU each"


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
    """Start both servers, and have them shake hands; each kind when it is done."""
    with ExitStack() as stack:
        ours = _Listening(0, free_port(), free_port())
        text = _CONFIGURATION.format(
            starttls=ours.starttls,
            implicit=ours.implicit,
            offer=tls_settings(folder, "offer"),
            immediate=tls_settings(folder, "implicit"),
        )
        relay = RelayProcess(folder, text, ours.starttls, tree)
        stack.callback(relay.stop)
        ours = _Listening(relay.pid, ours.starttls, ours.implicit)
        ports = free_port(), free_port()
        words = (sys.executable, "-m", "bench.plain_tls", str(folder / CERTIFICATE), *map(str, ports))
        plain = Server(folder / "plain.log", *words, environ={"PYTHONPATH": str(HERE)})
        stack.callback(plain.stop)
        plain.wait_for(*(("127.0.0.1", port) for port in ports))
        theirs = _Listening(plain.pid, *ports)
        for kind in (Kind(starttls, resume) for starttls in (False, True) for resume in (False, True)):
            runs: dict[_Listening, list[Shaken]] = {ours: [], theirs: []}
            for server in (ours, theirs):
                server.shaken(kind, max(4, handshakes // 10), version)  # to get warm
            for number in range(rounds):
                for server in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                    runs[server].append(server.shaken(kind, handshakes, version))
            yield Compared(kind, tuple(runs[ours]), tuple(runs[theirs]))


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
