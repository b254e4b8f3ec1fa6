"""`python -m bench`: starts the servers, measures them, and prints the report."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve

import bench
from bench import handshakes, idle, policies
from bench.machine import described, sentence
from bench.measuring import Bench
from bench.report import as_json, text
from bench.scenarios import FULL, QUICK, SMOKE, Extent
from bench.servers import Aiosmtpd, Measured, PostfixServer, Relay, Sink
from bench.trees import checked_out


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=bench.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of short runs")
    parser.add_argument("--smoke", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--json", metavar="FILE", help="write all of it there, too")
    parser.add_argument("--path", metavar="DIRECTORY", help="where spools are: the disk that is measured")
    parser.add_argument("--own", action="store_true", help="our own load and sink even where Postfix's are installed")
    parser.add_argument("--alone", action="store_true", help="the relay only, without its peers")
    parser.add_argument("--against", metavar="REVISION", help="beside the relay as it was then, by git")
    parser.add_argument("--rounds", metavar="NUMBER", type=int, help="how often each run is done")
    said = parser.parse_args(words)
    if said.rounds is not None and said.rounds < 1:
        parser.error("there is at least one round")
    return said


def main(words: list[str]) -> None:
    said = arguments(words)
    extent = SMOKE if said.smoke else QUICK if said.quick else FULL
    if said.rounds is not None:
        extent = evolve(extent, rounds=said.rounds)
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-", dir=said.path))
    try:
        report(said, extent, folder)
        if said.smoke:
            others(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\nIt took {time.monotonic() - begun:.0f} s.")


def report(said: argparse.Namespace, extent: Extent, folder: Path) -> None:
    """Measure all, and say each result as soon as it is there."""
    folder.chmod(0o755)  # Postfix's users come there
    machine = described(folder)
    own = said.own or not shutil.which("smtp-source", path="/usr/sbin:/sbin:/usr/local/sbin")
    with ExitStack() as stack:
        sink = Sink(_made(folder / "sink"), own=own)
        stack.callback(sink.stop)
        servers: list[Measured] = []
        for server in _servers(said, folder, sink.port, stack):
            stack.callback(server.stop)
            servers.append(server)
        load = "our own (bench/client.py)" if own else "smtp-source"
        print(f"On {sentence(machine)}.\nLoad: {load}. Sink: {sink.name}. All share the machine with the servers.")
        for server in servers:
            print(f"\n--- {server.name}\n{server.configuration.rstrip()}")
        if (why := PostfixServer.why_not()) and not said.alone:
            print(f"\nWithout Postfix: {why}.")
        results = []
        for result in Bench(sink, extent, own, _progress).results(servers):
            results.append(result)
            print(f"\n{text([result])}", flush=True)
    if said.json:
        shown = as_json(results, machine, {server.name: server.configuration for server in servers})
        Path(said.json).write_text(json.dumps(shown, indent=2) + "\n")


def others(folder: Path) -> None:
    """See that the other scripts run, too. Of what they are to show only resumption does not depend on the machine."""
    for tls in (False, True):
        print(f"\n{idle.measure(_made(folder / f'idle{tls:d}'), 100, tls=tls)}")
    for found in (
        *policies.engine(folder),
        *policies.others(_made(folder / "policies")),
        *policies.large(folder, 1000),
    ):
        print(found)
    for compared in handshakes.measured(_made(folder / "handshakes"), 20, rounds=1):
        print(f"\n{compared}")
        if not compared.resumes:
            raise AssertionError("sessions are not resumed")


def _servers(said: argparse.Namespace, folder: Path, sink: int, stack: ExitStack) -> Iterator[Measured]:
    """Start them. What one of them needs besides is given back by `stack`."""
    yield Relay(_made(folder / "relay"), sink)
    if said.against:
        tree = stack.enter_context(checked_out(said.against, folder))
        yield Relay(_made(folder / "other"), sink, tree)
    if not said.alone:
        yield Aiosmtpd(_made(folder / "aiosmtpd"))
        if not PostfixServer.why_not():
            yield PostfixServer(_made(folder / "postfix"), sink)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
