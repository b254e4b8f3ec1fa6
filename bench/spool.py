"""
How fast the spool is, alone: messages a second and microseconds of CPU for a message that is enrolled with a
lease and then settled, which is what each relayed message costs.

    python -m bench.spool [--messages 20000] [--size 1024] [--queued 100000] [--path DIRECTORY]

Committers wait for each of their commits, as sessions do. The first figures are for one of them, which pays for a
sync alone; then for many, which share it. Of the CPU it is said what the reactor's thread has of it, and how often
threads had to wait for each other (for the disk too, and for Python's lock).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from resource import RUSAGE_SELF, getrusage

from relay.net.reactor import install_monotonic_reactor

reactor = install_monotonic_reactor()

from twisted.internet.defer import Deferred, gatherResults  # noqa: E402

from relay.interfaces import Enrol, Settle  # noqa: E402
from relay.mail.address import Address  # noqa: E402
from relay.mail.envelope import Body, Client, Envelope, Form  # noqa: E402
from relay.mail.outcome import Relayed  # noqa: E402
from relay.mail.queue import Entry, Recipient  # noqa: E402
from relay.mail.routing import Forward, NextHop  # noqa: E402
from relay.net.clock import ReactorClock  # noqa: E402
from relay.spool.identity import recipient_id  # noqa: E402
from relay.spool.sqlite import SqliteSpool  # noqa: E402

HEAD = b"Received: from client.example.net ([192.0.2.1])\r\n\tby mx.example.org (relay) with ESMTP id X;\r\n\tdate\r\n"
CLIENT = Client("192.0.2.1", 40000, "client.example.net", True, "local")


class Bench:
    def __init__(self, spool: SqliteSpool, clock: ReactorClock, size: int) -> None:
        self.spool, self.clock = spool, clock
        self.content = b"Subject: hello\r\n\r\n" + b"x" * (size - 23) + b"\r\n.\r\n"
        self.left = 0
        self.number = 0
        self.routes = [Forward((NextHop(f"example{number}.org"),)) for number in range(50)]

    def enrol(self, lease: float | None) -> Enrol:
        self.number += 1
        draft = self.spool.begin(Form.WIRE)
        draft.write(self.content)
        number = self.number % 50
        envelope = Envelope(Address("jon", "example.net"), Body.EIGHT_BIT, False, CLIENT)
        entry = Entry(draft.id, self.clock.now(), envelope, HEAD)
        address = Address("elvis", f"example{number}.org")
        route = self.routes[number]
        recipient = Recipient(recipient_id(draft.id, 0), address, address, route, f"example{number}.org", "outbound")
        return Enrol(entry, draft, (recipient,), lease)

    async def committer(self) -> None:
        while self.left > 0:
            self.left -= 1
            (claim,) = await self.spool.commit([self.enrol(300.0)])
            done = Relayed("mx.example.org")
            await self.spool.commit([Settle(claim, tuple((p.recipient, done) for p in claim.pending))])

    async def filler(self) -> None:
        while self.left > 0:
            self.left -= 1
            await self.spool.commit([self.enrol(None)])

    async def drainer(self) -> None:
        done = Relayed("mx.example.org")
        while claims := await self.spool.claim(self.clock.now(), 100, 300.0):
            await self.spool.commit(
                [Settle(claim, tuple((p.recipient, done) for p in claim.pending)) for claim in claims]
            )

    async def measured(self, what: str, messages: int, work: Callable[[], Awaitable[None]], workers: int) -> None:
        self.left = messages
        before = _usage()
        await gatherResults([Deferred.fromCoroutine(work()) for _ in range(workers)])
        wall, cpu, own, waited = (after - then for after, then in zip(_usage(), before, strict=True))
        print(
            f"{what:<32} {messages / wall:8.0f}/s {cpu / messages * 1e6:7.1f} us of CPU each, "
            f"{own / messages * 1e6:6.1f} in the reactor's thread; {waited / messages:5.2f} waits",
            flush=True,
        )


def _usage() -> tuple[float, float, float, int]:
    """Seconds: by the clock, of CPU, of CPU in this thread; and how often a thread has waited."""
    usage = getrusage(RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, time.thread_time(), usage.ru_nvcsw


async def run(path: str, arguments: argparse.Namespace) -> None:
    clock = ReactorClock(reactor)
    spool = SqliteSpool.in_threads(path, clock, reactor.callFromThread)
    await spool.recover()
    bench = Bench(spool, clock, arguments.size)
    for committers in (1, 10, 100):
        messages = arguments.messages if committers == 100 else arguments.messages // 10
        await bench.measured(f"enrol and settle, {committers} at a time", messages, bench.committer, committers)
    if arguments.queued:
        await bench.measured("enrol, 100 at a time", arguments.queued, bench.filler, 100)
        before = time.perf_counter()
        print(f"census of {arguments.queued}: {await spool.census()}, {time.perf_counter() - before:.3f} s")
        await spool.close()
        before = time.perf_counter()
        bench.spool = spool = SqliteSpool.in_threads(path, clock, reactor.callFromThread)
        await spool.recover()
        print(f"re-opening with {arguments.queued} queued: {time.perf_counter() - before:.2f} s")
        await bench.measured("claim 100, settle", arguments.queued, bench.drainer, 1)
    await spool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--queued", type=int, default=0)
    parser.add_argument("--path", help="a directory on the disk to be measured")
    arguments = parser.parse_args()
    path = tempfile.mkdtemp(dir=arguments.path)
    failed: list[object] = []

    def start() -> None:
        running = Deferred.fromCoroutine(run(path, arguments))
        running.addErrback(lambda failure: (failed.append(failure), print(failure.getTraceback(), file=sys.stderr)))
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    shutil.rmtree(path)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
