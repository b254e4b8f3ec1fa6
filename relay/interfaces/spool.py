"""The spool: what was accepted, and what is left to do for it."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator, Sequence
from typing import TypeAlias

from attrs import frozen
from zope.interface import Attribute, Interface

from relay.mail.envelope import Form
from relay.mail.outcome import Delayed, Delivered, Failed, Relayed
from relay.mail.queue import Census, Entry, Pending, Recipient
from relay.mail.selection import Act, Group, Page, Selection, Steered, Tally
from relay.mail.value import value


class SpoolError(Exception):
    """Nothing was kept, and this is certain: the client may be told 451 (RFC 5321 section 4.2.1)."""


class ClaimLost(SpoolError):
    """Another holder has the recipients now: nothing of this commit has happened."""


class OutcomeUnknown(Exception):
    """
    Nobody can say whether the commit happened, for example because its `fdatasync` failed and no probe passed.

    Neither 250 nor 451 would be honest: the connection is closed without a reply (DESIGN.md, The spool).
    """


class ActUnknown(OutcomeUnknown):
    """The same of an operator's act: `perhaps` has whom it has changed if it has happened."""

    def __init__(self, why: str, perhaps: Steered) -> None:
        super().__init__(why)
        self.perhaps = perhaps


class IContent(Interface):
    """The octets of an entry's content, which may be larger than memory."""

    form: Form = Attribute("`WIRE` or `PLAIN`; the head is not part of it.")
    size: int = Attribute("How many octets the message has in plain form, its head excluded.")

    def blocks() -> Iterator[bytes]:
        """
        The content in its form, in blocks of 256 KiB at most. May be called again for another attempt, and be iterated
        over in any thread. Raises `OSError` when it cannot be read.
        """


class IDraft(Interface):
    """
    Content on its way into the spool, promised to nobody yet.

    A draft that is neither committed nor abandoned is gone after a restart, and that is correct:
    the client never heard 250.
    """

    id: str = Attribute("The queue id that the entry will have. Known at once, since `Received` names it.")
    form: Form = Attribute("With which it was begun.")

    def write(octets: bytes) -> None:
        """
        More content, in the form the draft was begun with. Never waits for the disk to have it.

        Raises `OSError` (a full disk): the draft is then of no use but to be abandoned.
        """

    def blocks() -> Iterator[bytes]:
        """
        What was written so far, in its form and in blocks of 256 KiB at most. May be called again. Raises `OSError`
        when it cannot be read.
        """

    def replace(length: int, octets: bytes) -> None:
        """
        Put these octets in the place of the first `length`, which are no more than there are. The draft is the same in
        all else. What is in a file is copied: it takes its time.

        Raises `OSError`; the draft is then of no use but to be abandoned.
        """

    def abandon() -> None:
        """Forget it. May be called at any time before its commit, and again."""


@value
class Claim:
    """
    The right to carry some recipients of one entry, until `expires`.

    `token` is the fence: a commit by a holder whose token is no longer the recipient's is refused
    (`relay.interfaces.ClaimLost`), because another holder may have carried the copy meanwhile.
    """

    token: int
    #: Seconds since the epoch, by the spool's clock.
    expires: float
    entry: Entry
    pending: tuple[Pending, ...]
    content: IContent
    #: It came with the commit that has kept the entry, and is the only one of it: nobody can have carried any of these.
    fresh: bool = False


@value
class Enrol:
    """
    Keep this new entry: the promise behind a 250.

    `lease`: seconds for which the committer at once holds a claim on those recipients that can be carried (all but
    held ones, and none of a message that is released later), which spares looking up what was just written. `None`:
    they wait in the queue, due now.

    `size`: how many octets the content has in plain form, where the committer has counted them already.
    """

    entry: Entry
    draft: IDraft
    recipients: tuple[Recipient, ...]
    lease: float | None = None
    size: int | None = None


@value
class Settle:
    """These recipients of a claim are done with. The entry goes when its last recipient has."""

    claim: Claim
    outcomes: tuple[tuple[Recipient, Delivered | Relayed | Failed], ...]


@frozen
class Postpone:
    """These recipients of a claim are tried again, each at its own time (seconds since the epoch)."""

    claim: Claim
    delays: tuple[tuple[Recipient, float, Delayed], ...]


@frozen
class GiveBack:
    """Nothing was tried (the relay stops, a lease is not needed): the recipients are due as they were."""

    claim: Claim
    recipients: tuple[Recipient, ...]


@frozen
class Renew:
    """The holder is still at work: the claim's lease ends `lease` seconds from now."""

    claim: Claim
    lease: float


#: A commit takes any number of steps, and either all of them happen or none.
Step: TypeAlias = Enrol | Settle | Postpone | GiveBack | Renew


class ISpool(Interface):
    """
    Keeps what was promised. Providers: `relay.spool.sqlite`, `relay.spool.memory`; both pass
    `relay.testing.check_spool`, and so does any later one, which may be shared by several machines.

    Times are seconds since the epoch by `IClock.now`.
    """

    accepting: bool = Attribute(
        "False from an unknown outcome until a probe has passed; new mail is refused with 451 meanwhile."
    )

    def begin(form: Form) -> IDraft:
        """
        Somewhere to put content that has not been promised to anyone. Never waits.

        Raises `SpoolError` where there is no place.
        """

    def room(octets: int) -> bool:
        """
        Whether a message of this size may be accepted now: free space, less a reserve for notices and for our
        own records (RFC 1870 section 6.1). Asked at MAIL and again before 354; answers from memory, no system call
        more often than once a second.
        """

    def commit(steps: Sequence[Step]) -> Awaitable[tuple[Claim, ...]]:
        """
        Make these steps happen, all or none, and return when they survive a power cut. It may begin before it is
        awaited; whatever goes wrong is raised to who awaits it.

        The claims are those that `Enrol` with a `lease` asked for, in order, one for each destination. Commits that
        wait at the same time share one sync of the disk and do not fail together. A draft is used up in any case.
        A commit that is cancelled while it waits has not happened; once it is under way it goes on, and its result is
        given.

        Raises `ClaimLost` if a step's claim is no longer its holder's. Where the storage reports an error, a second
        commit finds out what happened: if the first one has, it is a success; if not, this raises `SpoolError`, and
        nothing was kept. Raises `OutcomeUnknown` if that could not be found out; the spool then refuses (`accepting`)
        and probes by itself until a probe passes.
        """

    async def claim(now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        """
        Up to `most` recipients that are due at `now` and claimed by nobody, or whose claim has expired, the one that
        could be claimed the longest first, and claim them for `lease` seconds. Recipients of one entry with one
        destination come in one claim.

        `excluding` names destinations that have enough to do. Raises `SpoolError` if nothing can be claimed now.
        """

    async def next_due(excluding: Collection[str] = ()) -> float | None:
        """When the next recipient will be due (or its claim will expire), or `None` if nothing waits."""

    async def look_up(id: str) -> tuple[Entry, Sequence[Pending]] | None:
        """
        The entry and its unsettled recipients, held ones included; `None` if there is no such entry. Raises
        `SpoolError` for one that cannot be read.
        """

    async def hasten(domain: str, now: float, below: bool = False) -> int:
        """
        Make due at `now` what waits for its time and either goes to a destination of this name or has a recipient in
        this domain (`below`: or in one below it), and return how many recipients those are. Held and claimed ones, and
        those that wait for their release (RFC 4865), stay as they are. Raises `SpoolError`.
        """

    async def select(selection: Selection, most: int, after: str = "") -> Page:
        """
        Up to `most` of the recipients that are meant, in the order of their entries' ids and then of their own, from
        behind `after` on (`Queued.key`, or what a `Page` said). What is set aside is not among them.

        A bounded piece of work: a page may have fewer, or nobody at all, and still say where to go on. Raises
        `SpoolError`, and so do the other two.
        """

    async def tally(selection: Selection, by: Group = Group.DESTINATION, after: str = "") -> Tally:
        """How many recipients are meant, by group and state; in pieces, as `select`."""

    async def steer(act: Act, selection: Selection, after: str = "") -> Steered:
        """
        Do this with the recipients that are meant, a piece of them in one commit, and return when that survives a power
        cut. What becomes of each is said by `relay.mail.selection.course`.

        Who is claimed at this moment is never touched: it is counted as `busy`, and may be asked for again. A claim
        that has expired is lost to its holder. An entry goes with its last recipient. As `commit`, it raises
        `SpoolError` where nothing has happened, and `ActUnknown` where nobody can say.
        """

    async def census() -> Census:
        """Counts by state."""

    async def recover() -> Sequence[str]:
        """
        Called once by the owner of the shard, before anything else, under its exclusive lock: claims of the dead
        process end, content without an entry is removed, entries that cannot be read are set aside (`corrupt`)
        and their ids returned. Everything else goes on.
        """

    async def close() -> None:
        """Finish the commits that are under way and let go of the files."""
