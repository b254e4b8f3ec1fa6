"""Names: the `IResolver` that asks DNS servers, in turn and patiently, and keeps what they said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from random import SystemRandom
from typing import Any, Final

import dns.exception
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.config.addresses import Inet, server_address
from relay.interfaces import IClock, IResolver
from relay.mail.answer import Absent, Answer, Found, Unanswered
from relay.net.clock import cancel
from relay.net.datagrams import OpenDatagrams, opener
from relay.net.dnscache import Cache
from relay.net.dnstransport import DnsTransport, Silent
from relay.net.dnswire import KINDS, MOST_RECORDS, Alias, Query, Question, Refused, Settled, Truncated

#: How long a server has for its first answer; twice as long in each round after that.
FIRST_TIMEOUT: Final = 2.0
#: One that was silent is asked after the others for this long.
_SICK: Final = 60.0
#: CNAMEs that lead from one response to the next. Within one response dnspython follows 15.
_MOST_ALIASES: Final = 8

#: However long a server says that its answer holds.
_LONGEST_POSITIVE: Final = 24 * 3600
#: RFC 2308 section 5 allows hours. A domain that has just been set up should not wait for those.
_LONGEST_NEGATIVE: Final = 15 * 60
#: "Nobody answered" is no answer of the DNS. But a message for 1000 recipients of a broken domain asks only once.
_UNANSWERED: Final = 5

#: RFC 5452 section 9.2: nobody may be able to foretell the id of a query.
_unforeseeable: Final = SystemRandom().random

_log = Logger()


def system_servers(text: str) -> list[Inet]:
    """
    The DNS servers that the text of a `resolv.conf` names, in its order. Lines that make no sense are passed over.

    If there are none it is the one on this machine (resolv.conf(5)).
    """
    servers = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_]:
                try:
                    servers.append(server_address(address, port=53))
                except ValueError:
                    continue
    return servers or [Inet("127.0.0.1", 53)]


def local_answer(name: str, kind: str) -> Answer | None:
    """What no DNS server is asked about, or `None`: `localhost` is this machine (RFC 6761 section 6.3)."""
    if name != "localhost" and not name.endswith(".localhost"):
        return None
    match kind:
        case "A":
            return Found(("127.0.0.1",))
        case "AAAA":
            return Found(("::1",))
        case _:
            return Absent(nonexistent=False)


@implementer(IResolver)
class Resolver:
    """
    `IResolver` over DNS servers that resolve recursively.

    A server that says SERVFAIL or REFUSED, is out of reach or talks nonsense is not asked about this name again; one
    that is silent is, after the others, with twice the time. Those who ask for the same thing at the same time share
    one query, which goes on when one of them is cancelled. What is in the cache is answered without a `Deferred`.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IClock,
        servers: Sequence[Inet],
        random: Callable[[], float] = _unforeseeable,
        *,
        patience: float = 20.0,
        first_timeout: float = FIRST_TIMEOUT,
        most_records: int = MOST_RECORDS,
        most_at_once: int = 200,
        open_datagrams: OpenDatagrams | None = None,
    ) -> None:
        """
        `reactor` provides `IReactorFDSet` and `IReactorTCP`. `random` (numbers from 0 to 1) makes the ids of queries.
        `most_at_once` bounds the look-ups that use sockets, one each.
        """
        self._clock = clock
        self._servers = tuple(servers)
        self._random = random
        self._patience = patience
        self._first_timeout = first_timeout
        self._most_records = most_records
        self._transport = DnsTransport(reactor, clock, open_datagrams or opener(reactor))
        self._cache = Cache(clock)
        self._places = DeferredSemaphore(most_at_once)
        self._sick_until: dict[Inet, float] = {}
        self._waiting: dict[tuple[str, str], list[Deferred[Answer]]] = {}
        self._under_way: set[Deferred[None]] = set()
        self._closed = False

    async def look_up(self, name: str, kind: str) -> Answer:
        kept = self._cache.get(name, kind)
        if kept is not None:
            return kept
        if kind not in KINDS or not name.isascii():
            raise ValueError(f"we do not look up {kind} records of {name!r}")
        answer = local_answer(name, kind)
        if answer is not None:
            return answer
        if self._closed:
            return Unanswered("the relay is stopping")
        return await self._join(name, kind)

    async def close(self) -> None:
        """Give up what is under way (`Unanswered`), and return when no socket is left."""
        self._closed = True
        for look_up in tuple(self._under_way):
            look_up.cancel()
        await self._transport.close()

    def _join(self, name: str, kind: str) -> Deferred[Answer]:
        """Wait for the query that is under way for this, or begin it."""
        waiting = self._waiting.get((name, kind))
        first = waiting is None
        if waiting is None:
            waiting = self._waiting[name, kind] = []
        waiter: Deferred[Answer] = Deferred()
        waiting.append(waiter)
        if first:
            look_up = Deferred.fromCoroutine(self._look_up(name, kind))
            self._under_way.add(look_up)
            look_up.addCallback(lambda _: self._under_way.discard(look_up))
        return waiter

    async def _look_up(self, name: str, kind: str) -> None:
        """Find the answer out, keep it, and tell all who wait for it."""
        try:
            answer, ttl = await self._find_out(name, kind)
        except CancelledError:
            answer, ttl = Unanswered("the relay is stopping"), 0
        except Exception as problem:  # ours: whoever asked logs it, if anybody still asks
            waiting = self._waiting.pop((name, kind))
            if all(waiter.called for waiter in waiting):
                _log.failure("looking up a name")
            for waiter in waiting:
                waiter.errback(Failure(problem))
            return
        self._cache.keep(name, kind, answer, ttl)
        # One that was cancelled meanwhile does not hear it, and does not mind.
        for waiter in self._waiting.pop((name, kind)):
            waiter.callback(answer)

    async def _find_out(self, name: str, kind: str) -> tuple[Answer, float]:
        """The answer, and for how many seconds it may be kept."""
        try:
            question = Question.about(name, kind)
        except dns.exception.DNSException:
            return Absent(nonexistent=True), 0
        deadline = self._clock.seconds() + self._patience
        if not await self._enter(deadline):
            return Unanswered("too many look-ups at once"), 0
        try:
            return await self._follow(question, deadline)
        finally:
            self._places.release()

    async def _enter(self, deadline: float) -> bool:
        """Wait for a place among those who may ask; false if the deadline comes first."""
        place = self._places.acquire()
        if place.called:
            return True
        timer = self._clock.callLater(deadline - self._clock.seconds(), place.cancel)
        try:
            await place
        except CancelledError:
            return False
        finally:
            cancel(timer)
        return True

    async def _follow(self, question: Question, deadline: float) -> tuple[Answer, float]:
        """Ask, and ask again for as long as the answer is that the name stands for another one."""
        asked = {question.name}
        ttl, authentic = _LONGEST_POSITIVE, True
        while True:
            response = await self._ask_servers(question, deadline)
            match response:
                case Settled(answer, seconds):
                    longest = _LONGEST_POSITIVE if isinstance(answer, Found) else _LONGEST_NEGATIVE
                    answer = evolve(answer, authentic=answer.authentic and authentic)
                    return answer, min(ttl, seconds, longest)
                case Alias(target, seconds, genuine):
                    if target.name in asked or len(asked) > _MOST_ALIASES:
                        return Unanswered("its CNAMEs come to no end"), _UNANSWERED
                    asked.add(target.name)
                    question, ttl, authentic = target, min(ttl, seconds), authentic and genuine
                case Refused(why):
                    return Unanswered(why), _UNANSWERED

    async def _ask_servers(self, question: Question, deadline: float) -> Settled | Alias | Refused:
        """Ask the servers in turn until one has an answer, none is left, or the time is over."""
        now = self._clock.seconds()
        # `sorted` is stable: in the operator's order, but those that were silent lately last.
        willing = sorted(self._servers, key=lambda server: self._sick_until.get(server, now) > now)
        timeout = self._first_timeout
        why = "no DNS server"
        while willing:
            for server in tuple(willing):
                remaining = deadline - self._clock.seconds()
                if remaining <= 0:
                    return Refused(why)
                response = await self._ask(server, question, min(timeout, remaining))
                match response:
                    case Settled() | Alias():
                        self._sick_until.pop(server, None)
                        return response
                    case Silent():
                        self._sick_until[server] = self._clock.seconds() + _SICK
                    case Refused():
                        willing.remove(server)
                # Without the server's address: this comes into notices.
                why = response.why
            timeout *= 2
        return Refused(why)

    async def _ask(self, server: Inet, question: Question, timeout: float) -> Settled | Alias | Refused | Silent:
        """Ask one server, as its answers want it: without EDNS, by TCP."""
        deadline = self._clock.seconds() + timeout

        def remaining() -> float:
            return max(0.0, deadline - self._clock.seconds())

        query = self._query(server, question)
        response = await self._transport.by_datagram(server, query, timeout)
        if isinstance(response, Refused) and response.dislikes_edns:
            query = self._query(server, question, edns=False)
            response = await self._transport.by_datagram(server, query, remaining())
        if isinstance(response, Truncated):
            response = await self._transport.by_tcp(server, query, remaining())
        if isinstance(response, Truncated):
            return Refused("truncated by TCP")
        return response

    def _query(self, server: Inet, question: Question, *, edns: bool = True) -> Query:
        # The AD bit of a resolver elsewhere can be set by anybody on the way (RFC 4035 section 4.9.3).
        trusted = ip_address(server.host).is_loopback
        id = int(self._random() * 65536) & 0xFFFF
        return Query(question, id, edns=edns, trusted=trusted, most_records=self._most_records)
