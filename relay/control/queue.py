"""
What an operator may ask of the queue, and do with it.

An answer is made of as many slices of the spool as fit into a moment. Who wants the rest asks again, with `next`: so no
question and no act holds up the mail, and the relay never has more in memory than a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from relay.control.api import Answer, Asked, Refused
from relay.control.quarantine import Quarantine
from relay.control.running import Running
from relay.control.words import group_by, most_of, route_of, selection_of
from relay.delivery.health import NOT_YET
from relay.interfaces import ActUnknown, IMailLog
from relay.mail.queue import Entry, destination
from relay.mail.routing import Hold
from relay.mail.selection import Act, Group, Queued, Reroute, Selection, State, Steered, Tally, Verb, path_text
from relay.mail.waiting import DestinationView, why

#: Seconds for which slices are asked for, for one answer.
MOMENT: Final = 0.25
#: Recipients of a page, and how many may be asked for. A page is a little longer where an entry would be torn.
PAGE, LONGEST_PAGE = 500, 5000

#: The word of the mail log for each verb.
_EVENTS: Final = {
    Verb.HOLD: "held",
    Verb.RELEASE: "released",
    Verb.RETRY: "hastened",
    Verb.DELETE: "deleted",
    Verb.FAIL: "given_up",
}
#: Groups of one answer; whoever asks adds up.
_MOST_GROUPS: Final = 10_000
_PAGING: Final = ("after", "most")


@frozen
class QueueDesk:
    """Answers about the queue of a relay."""

    running: Running

    def questions(self) -> Mapping[str, Answer]:
        return {"queue": self.listed, "queue/count": self.counted, "queue/show": self.shown}

    def acts(self) -> Mapping[str, Answer]:
        return {**{f"queue/{verb.value}": self._doing(verb) for verb in Verb}, "queue/reroute": self.rerouted}

    # Asking.

    async def listed(self, asked: Asked) -> Mapping[str, Any]:
        """A page of whole entries, with those of their recipients that are meant."""
        selection = selection_of(asked.words, _PAGING)
        queued, after = await self._page(selection, most_of(asked, PAGE, LONGEST_PAGE), asked.text("after"))
        return {"now": self.running.clock.now(), "entries": self._entries(queued), "next": after}

    async def counted(self, asked: Asked) -> Mapping[str, Any]:
        """How many there are by state, in groups. Whoever asks adds up the pages."""
        selection, by = selection_of(asked.words, ("after", "by")), group_by(asked)
        counts: Counter[tuple[str, State]] = Counter()
        after, end = asked.text("after"), self._end()
        while True:
            tally: Tally = await self.running.spool.tally(selection, by, after)
            for (name, state), count in tally.counts.items():
                # Who was put off for what others have met waits for the same reason as they do.
                counts[name.removeprefix(NOT_YET) if by is Group.REASON else name, state] += count
            after = tally.after
            if not after or self._over(end) or len(counts) > _MOST_GROUPS:
                break
        groups: dict[str, dict[str, int]] = {}
        for (name, state), count in counts.items():
            groups.setdefault(name, {})[state.value] = count
        return {"by": by.value, "groups": groups, "next": after}

    async def shown(self, asked: Asked) -> Mapping[str, Any]:
        """All that is known of one message."""
        selection = selection_of(asked.words)
        if len(selection.ids) != 1:
            raise Refused("which message? Say its queue id")
        # A recipient's id is its entry's, a dot and a number.
        id = selection.ids[0].partition(".")[0]
        found = await self.running.spool.look_up(id)
        if found is None:
            raise Refused(f"there is no message {id} in the queue; 'relayctl trace {id}' may know it", 404)
        queued, _ = await self._page(Selection(ids=(id,)), LONGEST_PAGE, "")
        [entry] = self._entries(queued) or [{}]
        return {"now": self.running.clock.now(), **entry, **_envelope(found[0])}

    async def _page(self, selection: Selection, most: int, after: str) -> tuple[list[Queued], str]:
        """Recipients, and where the next page begins. An entry is never torn."""
        spool, end = self.running.spool, self._end()
        queued: list[Queued] = []
        while True:
            page = await spool.select(selection, most - len(queued), after)
            queued += page.queued
            after = page.after
            if not after or len(queued) >= most or self._over(end):
                break
        if queued and after == queued[-1].key:
            last = queued[-1].entry
            meant = (last,) if last in selection.ids or not selection.ids else selection.ids
            rest = await spool.select(evolve(selection, ids=meant), LONGEST_PAGE, after)
            queued += [one for one in rest.queued if one.entry == last]
            after = queued[-1].key
        return queued, after

    def _entries(self, queued: Sequence[Queued]) -> list[dict[str, Any]]:
        now = self.running.clock.now()
        destinations = {each.name: each for each in self.running.delivery.destinations()}
        entries: dict[str, dict[str, Any]] = {}
        for one in queued:
            entry = entries.get(one.entry)
            if entry is None:
                entry = entries[one.entry] = {
                    "id": one.entry,
                    "arrived": one.arrived,
                    "size": one.size,
                    "sender": "" if one.sender is None else path_text(one.sender),
                    "recipients": [],
                }
            its = destinations.get(one.pending.recipient.destination)
            entry["recipients"].append(_recipient(one, now, its))
        for entry in entries.values():
            entry["queue"] = _place([each["state"] for each in entry["recipients"]])
        return list(entries.values())

    # Acting.

    async def rerouted(self, asked: Asked) -> Mapping[str, Any]:
        via = asked.text("via")
        if not via:
            raise Refused("where to? Say 'via' with a next hop")
        return await self._done(asked, Reroute(route_of(via)), ("via",))

    def _doing(self, verb: Verb) -> Answer:
        async def act(asked: Asked) -> Mapping[str, Any]:
            return await self._done(asked, verb)

        return act

    async def _done(self, asked: Asked, act: Act, also: tuple[str, ...] = ()) -> Mapping[str, Any]:
        """Each slice is a commit of its own, and is in the mail log before the next one is begun."""
        selection = selection_of(asked.words, ("after", "all", *also))
        if selection.is_all and asked.words.get("all") is not True:
            raise Refused("who is meant? Say a filter or an id, or 'all' for the whole queue")
        done = busy = unmoved = 0
        after, end = asked.text("after"), self._end()
        try:
            while True:
                steered = await self._steered(act, selection, after, asked.user)
                if act is Verb.RELEASE and steered.unmoved:
                    let_out = await self._let_out(selection, after, steered.after, asked.user)
                    done, unmoved = done + let_out, unmoved - let_out
                done, busy, unmoved = done + len(steered.done), busy + steered.busy, unmoved + steered.unmoved
                after = steered.after
                if not after or self._over(end):
                    break
        finally:
            if act is not Verb.HOLD:
                self.running.delivery.wake()
        return {"done": done, "busy": busy, "unmoved": unmoved, "next": after}

    async def _steered(self, act: Act, selection: Selection, after: str, user: str | None) -> Steered:
        """One slice, with its record (law L3), also where it is not known whether it has happened."""
        log = self.running.maillog
        try:
            steered = await self.running.spool.steer(act, selection, after)
        except ActUnknown as unknown:
            for queued in unknown.perhaps.done:
                note(log, act, queued, user, perhaps=True)
            raise
        for queued in steered.done:
            note(log, act, queued, user)
        return steered

    async def _let_out(self, selection: Selection, after: str, until: str, user: str | None) -> int:
        """How many of a slice a policy has held, that now go where others say."""
        quarantine = Quarantine(self.running.spool, self.running.routes)
        count = 0
        for way in await quarantine.ways(await quarantine.held(selection, after, until, LONGEST_PAGE)):
            steered = await self._steered(way.act, Selection(ids=way.ids), "", user)
            count += len(steered.done)
        return count

    # Moments.

    def _end(self) -> float:
        return self.running.clock.seconds() + MOMENT

    def _over(self, end: float) -> bool:
        return self.running.clock.seconds() >= end


def note(log: IMailLog, act: Act, queued: Queued, user: str | None, *, perhaps: bool = False) -> None:
    """The record of an act, with who asked for it."""
    recipient = queued.pending.recipient
    fields: dict[str, object] = {
        "id": queued.entry,
        "recipient": recipient.address,
        "destination": recipient.destination,
        "operator": user or "unknown",
        "perhaps": "yes" if perhaps else "",
    }
    if recipient.original != recipient.address:
        fields["original"] = recipient.original
    if isinstance(act, Reroute):
        log.event("rerouted", **fields, via=destination(act.route))
    else:
        log.event(_EVENTS[act], **fields)


def _place(states: Sequence[str]) -> str:
    """Where Postfix would have an entry whose recipients are so: `relay-mailq` shows it."""
    if State.ACTIVE.value in states:
        return "active"
    return "hold" if set(states) == {State.HELD.value} else "deferred"


def _recipient(queued: Queued, now: float, view: DestinationView | None) -> dict[str, Any]:
    pending = queued.pending
    recipient, last = pending.recipient, pending.last
    said: dict[str, Any] = {
        "id": recipient.id,
        "address": path_text(recipient.address),
        "destination": recipient.destination,
        "policy": recipient.policy,
        "state": queued.state.value,
        "attempts": pending.attempts,
        "due": pending.due,
        "why": why(queued, now, view).value,
        "delay_reason": "" if last is None else f"{last.because} ({last.status})",
    }
    if isinstance(recipient.route, Hold) and recipient.route.because:
        said["because"] = recipient.route.because
    if recipient.original != recipient.address:
        said["original"] = path_text(recipient.original)
    if last is not None:
        said["last"] = {
            "status": last.status,
            "because": last.because,
            "diagnostic": last.diagnostic,
            "peer": last.peer,
        }
    return said


def _envelope(entry: Entry) -> dict[str, Any]:
    """What `show` says beside what a list does."""
    envelope, client = entry.envelope, entry.envelope.client
    by = envelope.deliver_by
    said = {
        "client": client.address,
        "helo": client.helo,
        "listener": client.listener,
        "user": client.user,
        "body": envelope.body.value,
        "smtputf8": envelope.smtputf8,
        "envid": envelope.envid,
        "require_tls": envelope.require_tls,
        "priority": envelope.priority,
        "deliver_by": by and by.until,
        "release": envelope.release,
        "head": entry.head.decode("ascii", "replace"),
    }
    return {name: value for name, value in said.items() if value not in (None, "", False)}
