"""
Uses a spool until it is killed, and says on its standard output what it was told: `+ID` when an entry is kept, `~ID`
before it is settled, `-ID` when that is done. For `tests/test_spool_kill.py`.

    python -m tests.contracts.spool.worker DIRECTORY
"""

from __future__ import annotations

import os
import sys

from relay.net.reactor import install_monotonic_reactor

reactor = install_monotonic_reactor()

from twisted.internet.defer import Deferred  # noqa: E402

from relay.interfaces import Enrol  # noqa: E402
from relay.mail.envelope import Form  # noqa: E402
from relay.net.clock import ReactorClock  # noqa: E402
from relay.spool.sqlite import SqliteSpool  # noqa: E402
from relay.testing.spool_case import entry, recipient, settled  # noqa: E402
from tests.contracts.spool.shards import LIMITS, content_of  # noqa: E402

WORKERS = 12


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def work(spool: SqliteSpool, settles: bool) -> None:
    while True:
        draft = spool.begin(Form.PLAIN)
        octets = content_of(draft.id)
        for at in range(0, len(octets), 50_000):
            draft.write(octets[at : at + 50_000])
        (claim,) = await spool.commit([Enrol(entry(draft.id), draft, (recipient(draft.id + ".0"),), 300.0)])
        say(f"+{draft.id}")
        if settles:
            say(f"~{draft.id}")
            await spool.commit([settled(claim)])
            say(f"-{draft.id}")


async def main(path: str) -> None:
    spool = SqliteSpool.in_threads(path, ReactorClock(reactor), reactor.callFromThread, limits=LIMITS)
    await spool.recover()
    for number in range(WORKERS):
        Deferred.fromCoroutine(work(spool, number % 2 == 0)).addErrback(lambda failure: say(f"! {failure.value!r}"))


if __name__ == "__main__":
    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(main(sys.argv[1])).addErrback(lambda f: say(f"! {f.value!r}"))
    )
    reactor.run()
