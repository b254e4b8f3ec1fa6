"""
How many connections a second come by STARTTLS, bring a message and go: the relay, Postfix and twisted.mail.

    python -m bench.tls [--rounds 3] [--seconds 2]

All servers show the same certificate (ECDSA, P-256), and each does with a message what it is there for: the relay and
Postfix make it durable and carry it to a sink, and the rate is that of messages that have arrived there. twisted.mail
has nothing that relays on Python 3: it throws the message away, and so does the relay where it is compared with it.
The relay that relays is beside it, too.

New sessions each time, and resumed ones: with the ticket of the connection before. twisted.mail resumes nothing, so
that resumed sessions are compared with its new ones.

The load is our own (bench/tls_client.py), since smtp-source has no TLS, and shares the machine with the servers. What
it has used of it is in the figures: a server that has used its core, or the machine's rest, was not waiting for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from attrs import evolve, frozen

from bench.machine import all_stats, used
from bench.peers.twisted_mail import TwistedMail
from bench.servers import CERTIFICATE, PostfixServer, RelayProcess, Sink, tls_settings
from bench.targets import Line, Round, at_least, table
from bench.trees import HERE
from tests.interop.peers import free_port, until
from tests.interop.postfix import Postfix

#: Enough that no server waits for the load, and far from what any of them has to refuse.
_SESSIONS: Final = 20
#: Seconds for what is left to do when the last message has arrived. It counts as CPU.
_AFTERWARDS: Final = 0.3

_CONFIGURATION: Final = """\
hostname = "relay.test"
[spool]
path = "spool"
[log]
mail = "mail.log"
[control]
socket = "control.sock"
[[listener]]
address = "127.0.0.1:{port}"
{tls}[[policy]]
use = "discard"
when = {{ recipient = ["discard.test"] }}
[[policy]]
use = "forward"
when = {{ client = ["127.0.0.1"] }}
next_hop = "127.0.0.1:{sink}"
"""


@frozen
class Run:
    """One load on one server."""

    connections: int
    #: Seconds until the last one was answered, and until its message was where it had to go.
    accepted: float
    finished: float
    #: Seconds of CPU that the server has used, and the load.
    cpu: float
    load: float
    resumed: int

    @property
    def rate(self) -> float:
        """Connections a second whose message has arrived."""
        return self.connections / self.finished


@frozen
class Target:
    """A server, and where its messages go."""

    name: str
    port: int
    recipient: str
    #: The processes that have started all others of it.
    roots: tuple[int, ...]
    #: Where its messages are counted, if it carries them anywhere.
    sink: Sink | None

    def run(self, seconds: float, *, resume: bool, sessions: int = _SESSIONS) -> Run:
        """Connections for so long."""
        before = self.sink.count if self.sink else 0
        cpu = used(all_stats(), self.roots)
        words = ["--sessions", str(sessions), "--seconds", str(seconds), *(["--resume"] if resume else [])]
        begun = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "bench.tls_client", *words, "127.0.0.1", str(self.port), self.recipient],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=60 + 10 * seconds,
            check=False,
        )
        if ran.returncode:
            raise AssertionError(f"the load on {self.name} has failed:\n{ran.stderr}")
        said = json.loads(ran.stdout)
        # The program has started before, and ends afterwards: what it did meanwhile has no part in the time.
        ended, connections = time.monotonic(), said["connections"]
        arriving = connections + (sessions if resume else 0)
        if self.sink is not None:
            sink = self.sink
            until(
                lambda: sink.count - before >= arriving,
                lambda: f"{self.name} has lost messages: {sink.count - before} of {arriving} have arrived",
                patience=60 + arriving / 50,
            )
        late = time.monotonic() - ended
        time.sleep(_AFTERWARDS)
        spent = used(all_stats(), self.roots) - cpu
        assert ended > begun
        return Run(connections, said["seconds"], said["seconds"] + late, spent, said["cpu"], said["resumed"])


@frozen
class Series:
    """All runs of a server, one for each round."""

    target: Target
    resume: bool
    runs: tuple[Run, ...]

    @property
    def rate(self) -> float:
        return median(run.rate for run in self.runs)

    @property
    def spread(self) -> float:
        """How far the rounds are apart, as a part of their median."""
        rates = [run.rate for run in self.runs]
        return (max(rates) - min(rates)) / self.rate

    @property
    def resumed(self) -> float:
        """Which part of the sessions was taken up."""
        return sum(run.resumed for run in self.runs) / sum(run.connections for run in self.runs)

    @property
    def cores(self) -> tuple[float, float]:
        """How many cores the server was busy on, and the load."""
        return median(run.cpu / run.finished for run in self.runs), median(run.load / run.finished for run in self.runs)

    @property
    def cpu_each(self) -> float:
        """Milliseconds of CPU for each connection."""
        return median(run.cpu / run.connections for run in self.runs) * 1000

    def __str__(self) -> str:
        ours, load = self.cores
        return (
            f"{self.target.name:<24}{'resumed' if self.resume else 'new':<8}{self.rate:8,.0f}/s, "
            f"spread {self.spread:.0%}, {self.cpu_each:.2f} ms of CPU each, "
            f"busy on {ours:.2f} cores, the load on {load:.2f}; {self.resumed:.0%} resumed"
        )


def ratio(ours: Series, theirs: Series) -> float:
    """The median of the rounds' ratios."""
    return median(one.rate / other.rate for one, other in zip(ours.runs, theirs.runs, strict=True))


def measure(given: Round) -> Iterator[Series]:
    """Start the servers, and let them take turns: first with new sessions, and then with resumed ones."""
    with ExitStack() as stack:
        servers = list(_servers(given, stack))
        for resume in (False, True):
            runs: list[list[Run]] = [[] for _ in servers]
            for server in servers:
                server.run(min(0.5, given.seconds), resume=resume)  # to get warm
            for number in range(given.rounds):
                turns = list(zip(servers, runs, strict=True))
                for server, made in turns if number % 2 == 0 else reversed(turns):
                    given.say(f"STARTTLS, {'resumed' if resume else 'new'}, round {number + 1}: {server.name}")
                    made.append(server.run(given.seconds, resume=resume))
            for server, made in zip(servers, runs, strict=True):
                yield Series(server, resume, tuple(made))


def _servers(given: Round, stack: ExitStack) -> Iterator[Target]:
    folder = given.folder
    sink = Sink(_made(folder / "sink"), own=False)
    stack.callback(sink.stop)
    home = _made(folder / "relay")
    port = free_port()
    text = _CONFIGURATION.format(port=port, sink=sink.port, tls=tls_settings(home, "offer"))
    relay = RelayProcess(home, text, port)
    stack.callback(relay.stop)
    yield Target("relay", port, "all@sink.test", (relay.pid,), sink)
    yield Target("relay, discards", port, "all@discard.test", (relay.pid,), None)
    if not given.peers:
        return
    if not PostfixServer.why_not():
        postfix = _postfix(_made(folder / "postfix"), home / CERTIFICATE, sink.port)
        stack.callback(postfix.stop)
        yield Target("postfix", postfix.port, "all@sink.test", (postfix.master,), sink)
    twisted = TwistedMail(_made(folder / "twisted"), home / CERTIFICATE)
    stack.callback(twisted.stop)
    yield Target("twisted.mail", twisted.port, "all@discard.test", tuple(twisted.roots), None)


def _postfix(folder: Path, certificate: Path, sink: int) -> Postfix:
    """What `bench.servers` gives it, and TLS as Debian offers it, by a certificate that only it can read."""
    own = folder / CERTIFICATE
    shutil.copy(certificate, own)
    own.chmod(0o600)
    settings = {
        "in_flow_delay": "0",
        "default_process_limit": "200",
        "smtpd_peername_lookup": "no",
        "relayhost": f"[127.0.0.1]:{sink}",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(own),
        "smtpd_tls_key_file": str(own),
    }
    return Postfix.start(folder, free_port(), settings)


def _made(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def targets(given: Round) -> list[Line]:
    """STARTTLS connections a second, a message each."""
    if given.smoke:
        given = evolve(given, rounds=1, seconds=0.3)
    return lines(list(measure(given)))


def lines(found: Sequence[Series]) -> list[Line]:
    """What has become of the targets."""
    by = {(series.target.name, series.resume): series for series in found}
    said = []
    for resume in (False, True):
        scenario = f"STARTTLS, a new connection and a message each, {'resumed' if resume else 'new'} sessions"
        relay, discards = by["relay", resume], by["relay, discards", resume]
        said.append(_line(scenario, 1.2, "Postfix", relay, by.get(("postfix", resume))))
        # It has no resumed sessions; what it has are new ones.
        twisted = by.get(("twisted.mail", False))
        said.append(_line(f"{scenario}, thrown away", 1.0, "twisted.mail", discards, twisted))
        if twisted is not None:
            durable = f"{ratio(relay, twisted):.2f} x twisted.mail, which keeps nothing"
            said.append(Line(f"{scenario}, durable and relayed", "none", durable, None, _values(relay, twisted)))
    return said


def _line(scenario: str, bound: float, of: str, ours: Series, theirs: Series | None) -> Line:
    if theirs is None:
        return at_least(scenario, bound, of, None, f"{of} was not measured", **_values(ours))
    told = (
        f"{ours.rate:,.0f}/s to {theirs.rate:,.0f}/s, spread {max(ours.spread, theirs.spread):.0%}; "
        f"CPU each {ours.cpu_each:.2f} ms to {theirs.cpu_each:.2f} ms"
    )
    return at_least(scenario, bound, of, ratio(ours, theirs), told, **_values(ours, theirs))


def _values(*series: Series) -> dict[str, Any]:
    return {
        each.target.name: {
            "connections_a_second": each.rate,
            "spread": each.spread,
            "resumed": each.resumed,
            "cpu_ms_each": each.cpu_each,
            "cores": each.cores[0],
            "cores_of_the_load": each.cores[1],
            "runs": [
                {
                    "connections": run.connections,
                    "accepted_s": run.accepted,
                    "finished_s": run.finished,
                    "cpu_s": run.cpu,
                    "cpu_of_the_load_s": run.load,
                }
                for run in each.runs
            ],
        }
        for each in series
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    said = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="relay-tls-"))
    folder.chmod(0o755)
    found = []
    try:
        for series in measure(Round(folder, said.rounds, said.seconds, say=lambda _: None)):
            found.append(series)
            print(series, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shown = lines(found)
    print(f"\n{table(shown)}")
    sys.exit(os.EX_OK if all(line.met is not False for line in shown) else 1)


if __name__ == "__main__":
    main()
