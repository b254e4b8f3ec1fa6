"""
The contracts. What a docstring here says is the specification; an implementation's own says only what
is particular to it.

Waiting: a method that says "may wait" returns either its value or an awaitable of it; callers go through
`relay.net.waiting.start`, so that an answer that is there at once costs no `Deferred`. Awaitables are
Twisted's: coroutines and `Deferred`s, never asyncio's.

Whose fault: the client's and the peer's faults are values (verdicts, facts). An exception means that the code
which raises it is at fault; whoever called logs it and says 451, or `Delayed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import frozen
from zope.interface import Attribute, Interface

from relay.mail.answer import Answer
from relay.mail.decision import Admission, Decision
from relay.mail.envelope import Envelope, Form
from relay.mail.explanation import Decided
from relay.mail.history import Accounts, Findings
from relay.mail.outcome import Delayed, Delivered, Fact, Failed, Peer, Relayed
from relay.mail.phases import (
    AttemptInquiry,
    AttemptVerdict,
    ConnectionInquiry,
    ConnectionVerdict,
    ContentInquiry,
    ContentVerdict,
    SenderInquiry,
    SenderVerdict,
)
from relay.mail.queue import Census, Entry, Pending, Recipient
from relay.mail.routing import Inquiry, NextHop, RoutingVerdict
from relay.mail.selection import Act, Group, Page, Selection, Steered, Tally
from relay.mail.value import value
from relay.smtp.events import Answer as Said
from relay.smtp.events import Content, Question
from relay.smtp.scram import ScramKeys

# The outside world, as it is handed to those who need it.


class IClock(Interface):
    """
    Time. Durations and deadlines follow a clock that never steps; only what people read follows the calendar.
    """

    def seconds() -> float:
        """Seconds since some moment: monotonic, for durations (`IReactorTime.seconds`)."""

    def now() -> float:
        """
        Seconds since the epoch, anchored when the process started and monotonic from then on: what the
        spool keeps. A step of the machine's clock does not move it before the next start.
        """

    def calendar() -> float:
        """Seconds since the epoch as the machine's clock says at this moment: for dates in trace fields and logs."""

    def callLater(delay: float, callable: Any, *args: object, **kw: object) -> Any:
        """Twisted's `IReactorTime.callLater`."""


class IResolver(Interface):
    """Looks up names in the DNS. Two providers: `relay.net.resolver` and `relay.testing`'s fake world."""

    def look_up(name: str, kind: str) -> Awaitable[Answer]:
        """
        The records of `kind` (`"MX"`, `"A"`, `"AAAA"`, `"TXT"`, `"PTR"`, `"CNAME"`) of a name in canonical form.

        CNAMEs are followed. What the DNS says is a value: records, "no such name", "no such records", or that
        nobody answered. It never raises for what a server sent, and has answered after 20 seconds in all.
        Answers are kept for their TTL. More than 100 records are no answer. They are
        `authentic` only if a resolver on this machine has validated all of it (DNSSEC).
        """


class ITable(Interface):
    """
    A look-up table that people keep, reread when it changes.
    """

    def get(key: str) -> str | None:
        """
        The value for this key, or `None`. A key that stands alone has the value `""`. Never waits. Raises `OSError` or
        `ValueError` if the table cannot be read or makes no sense: a 451, until somebody has mended it.
        """

    def checked(check: Callable[[str, str], object]) -> ITable:
        """
        The same table for somebody to whom not every value means something: `check(key, value)` raises `ValueError`,
        with words for the operator, for one that does not. It may be called in any thread.

        A table that sees all its lines checks them whenever it has read them, and makes no sense as long as one is
        wrong. For what is wrong now this raises `ValueError`, with file and line.
        """


class IStore(Interface):
    """
    A small table that policies keep themselves, and that outlives the process: what was seen, and counts.

    Nothing that was promised may depend on it: a power cut takes its last second, and when it is full, the entry that
    would expire first goes. All methods answer at once. Providers: `relay.store.sqlite`, `relay.store.memory`,
    `relay.store.shared`, `relay.store.overlay`; all pass `relay.testing.store.check_store`.
    """

    def get(key: str) -> str | None:
        """The value, or `None` if there is none or its time is over."""

    def put(key: str, value: str, lifetime: float) -> None:
        """
        Keep a value for `lifetime` seconds from now, in the place of what was there.

        Raises `ValueError` for an empty key, for more than 1,000 characters of key (with the names of the parts that it
        is in) or 10,000 of value, for what has no form in UTF-8, and for a lifetime that is not above 0 and at most ten
        years.
        """

    def forget(key: str) -> None:
        """Let go of it. Nothing happens if it is not there."""

    def items(prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        """
        At most `most` keys that begin like this, with their values, in no particular order. It looks at all that is
        kept: for an operator's question, and not for each message.
        """

    def scoped(name: str) -> IStore:
        """
        The part of it that has this name: a store of its own, whose keys meet no others. It shares the bounds of the
        whole. A name is not empty and has no blanks. Each policy has the part of its own name as `world.store`.
        """


#: Nobody answers there; more than was asked for; not within the time; what must not be; anything else that is broken.
TroubleKind: TypeAlias = Literal["refused", "too long", "too late", "not permitted", "broken"]


class HttpTrouble(Exception):
    """There is no answer. `kind` says why in one of a few words, `text` for the log: it names no more than the host."""

    def __init__(self, kind: TroubleKind, text: str = "") -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind: TroubleKind = kind
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpTrouble) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))


@frozen
class HttpAnswer:
    """What a server has answered, whatever its status is."""

    status: int
    #: As they came, with names in lower case.
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first field of this name, in any letter case."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), None)


class IHttp(Interface):
    """Asks servers by HTTP. Two providers: `relay.net.fetching`, and `relay.testing.http` for tests."""

    async def request(
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = 5.0,
        most: int = 65536,
    ) -> HttpAnswer:
        """
        The answer, all of whose body is there, within `timeout` seconds in all and `most` octets. Raises `HttpTrouble`.

        A URL is one of the operator's or of the policy's own words, and may lead anywhere; nothing that a client says
        may become its host. At most 3 redirects are followed: never from `https` to `http`, and to no address but
        public ones, unless it is the very host and port that was asked for. To another one go neither the body nor
        any header field that the caller gave. Certificates are verified. Names are looked up once, and the connection
        goes to the address that was looked at.

        Raises `ValueError` for what can be no request: a URL that is neither `http` nor `https`, or names a user; a
        line break in a field. Whoever cancels it breaks off the connection.
        """


class IMailLog(Interface):
    """
    One line for each thing that happened to a message, with its queue id.
    """

    def event(what: str, /, **fields: object) -> None:
        """
        Note an event. `what` is one word in the past tense (`accepted`, `relayed`, `delayed`); a field
        that is `None` or empty is left out. Never waits and never raises: lines are written together,
        later in the same turn of the reactor.
        """


class ITakesNote(IMailLog):
    """
    A mail log that may be given the fields of an event as they are, so that several of them have one mapping in common.

    Nobody needs to be one: who hands events on (`relay.history.teed`) makes an `event` of them for whoever is not.
    """

    def note(what: str, fields: Mapping[str, object]) -> None:
        """
        As `IMailLog.event`. From now on nobody changes `fields`: neither who says it, nor who is told.
        """


class HistoryUnavailable(Exception):
    """The history cannot be read now. The message says why, in words for the operator."""


class IHistory(IMailLog):
    """
    What happened to messages and to refusals, for people to ask. Nothing that was promised depends on it.

    It is told what the mail log is told. Providers: `relay.history.sqlite`, `relay.history.memory`; both pass
    `relay.testing.history`.
    """

    def event(what: str, /, **fields: object) -> None:
        """
        As `IMailLog.event`. Events are kept together, soon afterwards and behind the reply that they tell of; where
        that cannot be done fast enough, or not at all, they are dropped and counted.
        """

    async def find(text: str, most: int = 20) -> Findings:
        """
        The lives of which `text` is the queue id, the Message-ID, or an address (of a sender, a recipient or a user, in
        any letter case), or that were refused to a client of this IP address: at most `most` of them, the newest first.
        A refusal that has no queue id is a life of its own.

        Events that the history was told before are among them. What is older or more than it may keep is not; where
        much has happened to one message, something is left out in the middle. Raises `HistoryUnavailable`.
        """

    def decided(decision: Decided, id: str = "", ref: str = "") -> None:
        """
        Keep how this came about, for `why`. `id`: of the message that it is about; "" where there is none. `ref`: the
        reference in the reply, or "". It is kept as events are, and is none: `find` knows nothing of it.

        Never waits and never raises. The decision is put into words later, perhaps in another thread: nothing in it
        may change.
        """

    async def why(text: str, most: int = 20) -> Accounts:
        """
        How these decisions came about: by their reference, in any way in which people write it, or by what `find`
        understands. At most `most`, the newest first. Raises `HistoryUnavailable`.
        """

    async def close() -> None:
        """Keep what was told, as far as that is possible now, and let go of the files."""


@frozen
class World:
    """
    All that a policy may learn outside facts from (law L5: same octets and same answers of `world`, same verdict).
    """

    clock: IClock
    resolver: IResolver
    #: A source of numbers between 0 and 1; seeded in tests.
    #: A `random.Random`; seeded in tests.
    random: Any
    #: A `twisted.logger.Logger` for what the operator should know. Constant format strings only.
    log: Any
    #: This relay's host name in canonical form.
    hostname: str
    #: What the policy keeps itself: a part of the relay's store that is its alone.
    store: IStore
    http: IHttp
    #: The `[[table]]` of this name, or the file at this path. Raises `ValueError`, with words for the operator, where
    #: there is none, or it cannot be read now: for the policy's constructor.
    table: Callable[[str | Path], ITable]


# Users.


class CredentialsUnavailable(Exception):
    """
    Nobody can say now whether the user is who it claims to be: 454 4.7.0 for the client (RFC 4954 section 6).

    The words are for the operator, and never have a password in them.
    """


class ICredentials(Interface):
    """
    Knows users, and answers the questions of `relay.smtp.sasl`.

    Providers: `relay.net.password_file`, `relay.net.dovecot_auth`, and `relay.net.credentials` for checkers of
    `twisted.cred`.

    For a user who does not exist it does the same work as for one who does, and takes as long. A user's name comes
    prepared by SASLprep, and a password as the client said it. Both methods raise `CredentialsUnavailable`;
    any other exception is a mistake in the provider. Either is answered with 454 4.7.0, and never counts as a failure
    of the client. When what is awaited is cancelled, nobody is interested in the answer any more.
    """

    scram = Attribute("Whether `scram_keys` has keys at all: SCRAM is not offered otherwise.")
    secret = Attribute(
        "At least 32 octets that nobody knows: the keys of users who do not exist are made from them. They should be"
        " the same after a restart, and on each machine that has the same users."
    )

    async def check_password(user: str, password: str) -> str | None:
        """The user's name, as policies and logs are to see it, if this is its password; else `None`."""

    async def scram_keys(user: str) -> ScramKeys | None:
        """The keys of this user, or `None` where there is no such user, or one that has none."""


# Policies. Each phase has an interface of its own, and a policy provides those in which it has something to say. In
# each of them all policies are asked in the order of the configuration, as far as their guard (`when`) holds.
#
# What holds for all of them: an answer may wait, no longer than the policy's `timeout`. An exception, a timeout, or
# anything that is not a verdict is answered with 451 4.3.0, and the log gets a traceback or the policy's name: a policy
# that fails never lets mail pass. A condition of the guard about what is not known yet in a phase (a recipient, before
# RCPT) does not hold there. A `Note`, and the `facts` of an `Accept` or an `Edit`, are for the policies that are
# asked later about the same; a policy that has an attribute `provides` names the facts that it may leave, and one that
# has `requires` is refused when the configuration is loaded unless a policy before it provides them.
#
# A policy whose code blocks has an attribute `blocking`, which is `True` in its class: its methods are plain ones, and
# are called in threads of its own, several at the same time, `threads` (4) at most. Its `world` may be used from there,
# and has no coroutines: `resolver.look_up` and `http.request` return their answers. What begins a stream is called
# there too, when all of the message is here.


class IConnectionPolicy(Interface):
    """Decides whether a client may stay, before it is greeted. The first that does not abstain decides."""

    def connect(inquiry: ConnectionInquiry) -> ConnectionVerdict | Awaitable[ConnectionVerdict]:
        """
        `Accept`, `Reject`, `Delay`, `Note`, or `ABSTAIN`; if all abstain the client may stay.

        A refusal is the greeting, with the code 554 or 421 whatever code the reply has (RFC 5321 section 3.1); a client
        that goes on hears 503. Asked again when a host that we trust has said for whom it speaks (XCLIENT).
        """


class ISenderPolicy(Interface):
    """Decides whether mail is taken from this sender. The first that does not abstain decides."""

    def sender(inquiry: SenderInquiry) -> SenderVerdict | Awaitable[SenderVerdict]:
        """`Accept`, `Reject`, `Delay`, `Note`, or `ABSTAIN`, at MAIL; if all abstain the sender is accepted."""


class IContentPolicy(Interface):
    """
    Decides about a message when all of it is here. The first that neither abstains nor edits decides; if none does it
    is accepted.
    """

    wants = Attribute(
        'What it has to see. `"headers"`: the header section, as fields. `"message"`: the whole, in pieces that can be'
        ' read again. `"stream"`: the whole, once, as it comes in.'
    )

    def examine(inquiry: ContentInquiry) -> ContentVerdict | Awaitable[ContentVerdict]:
        """
        `Accept`, `Reject`, `Delay`, `Discard`, `Hold`, `Edit`, `Each`, `Note`, or `ABSTAIN`.

        Asked once for the recipients for which its guard holds, behind the end of content and before the commit.
        """


class IStreamPolicy(IContentPolicy):
    """A content policy that wants `"stream"`."""

    def begin(inquiry: ContentInquiry) -> IContentReader:
        """
        Somebody to hand the octets of this message to, which begins to come in. `fields` has nothing yet, `size` is 0.

        What the reader has seen is asked about by `examine` with the reader as `inquiry.reader`.
        """


class IContentReader(Interface):
    """Takes one message, as a stream policy wants it."""

    def take(octets: bytes) -> None:
        """A piece of the message in plain form. Called in the reactor's thread, and has to be quick."""


class IAttemptPolicy(Interface):
    """Has a word before each attempt to deliver a copy. The first that does not abstain decides."""

    def attempt(inquiry: AttemptInquiry) -> AttemptVerdict | Awaitable[AttemptVerdict]:
        """
        `ABSTAIN` or `Accept`: it is tried. `Delay`: not now, and it is tried again by the schedule. `Forward`: this
        time it goes there. `Reject`: it has failed, and its sender is told. An exception is a `Delay`.
        """


class IObserver(Interface):
    """Sees what happens, and decides nothing."""

    def observe(what: str, fields: Mapping[str, object]) -> None:
        """
        An event of the mail log (docs/mail-log.md), in the turn in which it happens. An exception is logged, and
        nothing else comes of it. What takes long is done elsewhere: this is called in the reactor's thread.
        """


class IRoutingPolicy(Interface):
    """
    Decides where one recipient's copy goes. Asked in the order of the configuration, once for each RCPT
    and for each recipient an alias expands to; the first that does not abstain decides.

    A policy that has an attribute `routes`, which is `True`, says where mail goes and not who may send it: it is asked
    again before a copy that waits is tried again, with what is known of its client by then, and should have no other
    effect than its answer.
    """

    def route(inquiry: Inquiry) -> RoutingVerdict | Awaitable[RoutingVerdict]:
        """
        The verdict, or `ABSTAIN`. May wait, no longer than the policy's `timeout`.

        An exception, a timeout, or anything that is not a verdict is answered with 451 4.3.0, and the log
        gets a traceback or the policy's name: a policy that fails never lets mail pass.
        """


class IPolicyMaker(Interface):
    """
    What a plugin registers: by entry point in the group `relay.policies`, by `use = "package.module:Name"`,
    or as a Twisted plugin found by `getPlugins(IPolicyMaker, relay.plugins)`.

    A class that has these two attributes provides it well enough: `policy_maker` in `relay.policy.registry`
    accepts a policy class with an `Options` model and a constructor `(options, world)`.
    """

    use = Attribute("The word for `use` in the configuration; only Twisted plugins need it.")
    options = Attribute("A pydantic model of the policy's own options: `extra='forbid'`, every field described.")

    def make(options: Any, world: World) -> Any:
        """
        A policy: an object that provides at least one of the policy interfaces. Called once for each
        `[[policy]]` when the configuration is loaded; a `ValueError` is a configuration error.
        """


# The spool.


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


@value
class Enrol:
    """
    Keep this new entry: the promise behind a 250.

    `lease`: seconds for which the committer at once holds a claim on those recipients that can be carried (all but
    held ones, and none of a message that is released later), which spares looking up what was just written. `None`:
    they wait in the queue, due now.
    """

    entry: Entry
    draft: IDraft
    recipients: tuple[Recipient, ...]
    lease: float | None = None


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


# Delivery.


@value
class Consignment:
    """What an agent carries: one entry's content for some recipients that go the same way."""

    entry: Entry
    recipients: tuple[Recipient, ...]
    content: IContent
    #: What stands on top of the content: `entry.head`. Final delivery puts `Return-Path` above it.
    head: bytes
    #: Where an `ITransmitter` carries it to, and how: of the route's next hops the one whose turn it is.
    next_hop: NextHop | None = None


@value
class Report:
    """What happened to one recipient's copy."""

    recipient: Recipient
    fact: Fact


class IAgent(Interface):
    """
    Carries mail away. Called by the dispatcher with a consignment of recipients that share a destination.

    Registered like a policy: entry points `relay.agents`, `package.module:Name`, Twisted plugins.
    """

    def carry(consignment: Consignment) -> Awaitable[Sequence[Report]] | Sequence[Report]:
        """
        Try once, now. Exactly one report for each recipient, in any order. May wait; the dispatcher cancels it
        at its deadline.

        A report of `Carried` is a promise: the copy is durable where it went (a file and its directory are
        synced), or a server has said 250. An exception means `Misbehaved` for all: they are tried again.
        """


class IAgentMaker(Interface):
    """
    What a plugin registers to bring an agent.

    `options`, if it has it (a class: `Options`), is a pydantic model of the parameters, `extra='forbid'`; without it
    they are not checked.
    """

    use = Attribute("The agent's name in `Deliver(agent=...)`.")

    def make(world: World) -> Any:
        """An `IAgent`. Called once for a running relay."""


class Interrupted(Exception):
    """
    A transmission ended before everybody had a report, by what this is `from`: it was cancelled, or our own content
    failed. What others have said by then stands: a copy that was promised must not be sent again.
    """

    def __init__(self, reports: Sequence[Report]) -> None:
        super().__init__(f"{len(reports)} reports are there")
        self.reports = tuple(reports)


class IPlace(Interface):
    """
    What one attempt may have of its destination: a connection, and no two at the same time.

    A destination's limit is a promise to whoever is at the other end: on so many connections something is under way,
    and on no more. An attempt that began because another one awaited nothing but its final reply has no connection of
    its own, unless one is free: it follows on that of the other one, or waits.

    Where the connection on which it has followed is lost with the message ahead, it may make another one at once.
    """

    own: bool = Attribute("Whether it may use a connection that nobody uses, or make one.")

    def follow(ahead: IPlace) -> bool:
        """
        Whether it may be carried on the connection on which the message of `ahead` awaits its final reply. If it may,
        it is, and from the end of that one's attempt on the connection is its own.
        """

    def wait() -> Awaitable[None]:
        """Returns when it has a connection of its `own`. Asked only where it has none; may be cancelled."""

    def leave() -> None:
        """
        It is through with the host that it was at, and goes on elsewhere: somebody who has followed has its connection,
        and if there is somebody, it has none of its own.
        """


class ITraveller(IPlace):
    """An attempt that began in one step (`IWillingTransmitter`), as it is told how far it has come."""

    def sent() -> None:
        """As `sent` of `ITransmitter.transmit`."""

    def arrived() -> None:
        """The `IPassing` is over. Never raises."""


class IPassing(Interface):
    """A consignment on its way on a connection that was there already."""

    over: bool = Attribute("Whether it has ended.")
    facts: Sequence[Fact] = Attribute("Then, one for each of its recipients, in their order; none with a problem.")
    problem: BaseException | None = Attribute("Then, what `transmit` would raise: it was cancelled, or has no content.")

    def cancel() -> None:
        """End it at once, as if `transmit` were cancelled: `arrived` is called."""


class ITransmitter(Interface):
    """
    Carries mail onward, to one host: the SMTP client. Which hosts, and what their answers mean for the next one,
    is decided by whoever calls (`relay.delivery.attempt`).
    """

    def transmit(
        consignment: Consignment, peer: Peer, sent: Callable[[], None] | None = None, place: IPlace | None = None
    ) -> Awaitable[Sequence[Report]]:
        """
        One conversation with the host at `peer.address` and `peer.port`.

        `sent` is called once at most: when the last octet of the content is on its way, nothing but the host's final
        reply is awaited, and the next message for the same host may follow on the same connection without waiting for
        that. It may be called before this returns, and never raises. Where nothing may follow it is not called.

        `place`: which connections it may use. Without one it may use as many as it likes, one after the other.

        Exactly one report for each recipient: `Carried` (`onward`, unless the next hop speaks LMTP), `Answered`,
        `Broke`, `Unencrypted`, `Unauthenticated` or `Unsuitable`. It connects to this address and no other (more than
        once where the host wants that), never looks up a name, keeps the deadlines of the configuration for each phase
        by itself, and never raises for what a peer does. The content is sent as it is kept, head first; not one octet
        of it is changed. When it is cancelled it closes the connection. Raises `Interrupted` where there are reports by
        then, be it when it is cancelled or for content that cannot be read.
        """


class IWillingTransmitter(ITransmitter):
    """One that needs no coroutine where nothing is in its way."""

    def set_off(consignment: Consignment, peer: Peer, place: ITraveller) -> IPassing | None:
        """
        `transmit` to one recipient, if it can begin now on a connection that is there, in one step; else `None`, and
        nothing has happened. Never raises. If it is not `over` when this returns, `place.arrived` is called when it is.
        """

    def transmit(
        consignment: Consignment,
        peer: Peer,
        sent: Callable[[], None] | None = None,
        place: IPlace | None = None,
        passing: IPassing | None = None,
    ) -> Awaitable[Sequence[Report]]:
        """As `ITransmitter.transmit`. It goes on with a `passing` to this peer that is over, of which it knows more."""


# A session.


class IChain(Interface):
    """All policies together."""

    async def route(inquiry: Inquiry, observe: Any = None) -> Decision:
        """
        Where the recipient's copies go, or why it is refused. Never raises for what a policy did: that is a refusal
        with 451.
        """

    async def inquire(inquiry: Inquiry) -> Decision:
        """As `route`, for somebody who only wants to know: policies keep nothing of it."""


class IScreening(Interface):
    """
    All policies together, about everything in a session but where a recipient's copies go.

    None of these raises for what a policy did: that is a refusal with 451.
    """

    asks_clients = Attribute("Whether any policy has a word in the connection phase; if none has, none need be asked.")
    asks_senders = Attribute("The same of the sender phase.")
    asks_contents = Attribute("The same of the content phase.")

    async def connect(inquiry: ConnectionInquiry, observe: Any = None) -> Admission:
        """
        Whether a client may stay. `observe`, here and below, is called with each step (`relay.policy.steps`) as it is
        made.
        """

    async def sender(inquiry: SenderInquiry, observe: Any = None, until: float | None = None) -> Admission:
        """
        Whether mail is taken from this sender. `until`, by `IClock.seconds`: when that has to be known, where the same
        command has asked about the client.
        """

    def content_policies(inquiry: Inquiry) -> tuple[int, ...]:
        """
        Which policies will have a word about content for this recipient: two recipients for whom that is the same have
        the same verdict, unless a policy tells them apart by `Each`.
        """

    def content(inquiry: ContentInquiry, about: Sequence[Inquiry], observe: Any = None) -> Any:
        """
        The questions about one message that begins to come in (`relay.policy.contents.Content`): `take(octets)` for
        each piece in plain form if it `wants_stream`, and `await decide(size, fields, blocks)` at its end, which gives
        a `relay.mail.screening.Outcome`. `about`: what was asked about each recipient.
        """


class IAttemptScreening(Interface):
    """All policies together, about each attempt to deliver a copy."""

    asks_attempts = Attribute("Whether any policy has a word about attempts; if none has, none need be asked.")

    async def attempt(inquiry: AttemptInquiry, about: Inquiry) -> AttemptVerdict:
        """
        What the first says that does not abstain; `about` is what its guard looks at. Several may be asked at the same
        time. Never raises for what a policy did: that is a `Delay`, and so it is that they take too long together.
        """


class IRoutes(Interface):
    """Policies, asked where a copy goes by the configuration of today."""

    async def today(inquiry: Inquiry, policy: str) -> Decision | None:
        """
        Where the copy of this recipient goes, which `policy` has once sent its way: at most one placement, or why there
        is none. Only policies that say `routes = True` are asked, and no alias is followed. `None`: this policy does
        not say so, hence its word stands. Never raises for what a policy did.
        """


class IVisit(Interface):
    """
    Answers one client's questions. The adapter of a connection (`relay.net.server`) calls it, and nothing else does.
    """

    known: Any = Attribute("What is known of the client that holds for its next session on the same connection, too.")

    def answer(question: Question) -> Said | Awaitable[Said]:
        """
        The reply to a question of `relay.smtp.server.ServerSession`. May wait; there is one question at a time.
        `Verdicts` answer the end of content only.

        An exception is answered with 451 4.3.0. `OutcomeUnknown` closes the connection without a reply.
        """

    def take(content: Content) -> None:
        """A piece of content. Never waits and never raises: trouble is told at its end."""

    def lost() -> None:
        """
        The connection is gone. What was not promised is forgotten; a commit that is under way goes on.

        Called exactly once, also after a farewell.
        """


class IDispatch(Interface):
    """Where reception hands over what it has just promised."""

    def lease(envelope: Envelope, recipients: Sequence[Recipient]) -> float | None:
        """
        For how many seconds the recipients of a new entry should be claimed for the dispatcher at once, or `None` if it
        has enough to do, in all or for their destinations: then they wait in the spool.
        """

    def accept(claims: Sequence[Claim], left: Sequence[Recipient] = ()) -> None:
        """
        Carry these, which the commit of an `Enrol` with that lease has returned; if it has returned none, its
        recipients are `left` in the spool. Without either, nobody knows what is there. Called in the turn that answers
        250; never raises.
        """

    async def hasten(domain: str, below: bool = False) -> int:
        """
        Try now what waits for this domain (`ISpool.hasten`), as ETRN asks for (RFC 1985), and return how many
        recipients that concerns. Raises `SpoolError`.
        """
