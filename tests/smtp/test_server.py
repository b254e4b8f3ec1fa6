"""The server's side of the dialogue, without a socket."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address, parse_address
from relay.mail.envelope import Body, Form
from relay.mail.reply import Reply
from relay.smtp import answers, commands
from relay.smtp.events import (
    Answer,
    Auth,
    Cancelled,
    ChunkEnded,
    Connected,
    Content,
    ContentEnded,
    Data,
    Event,
    Hello,
    Mail,
    Misspoken,
    Noop,
    Question,
    Quit,
    Rcpt,
    Reset,
    Response,
    StartTls,
    Verdicts,
    XClient,
)
from relay.smtp.extensions import ALL, STRANGER, Standing
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import MOVES, ServerSession, State
from tests.smtp.test_octets import cut

STRICT = Profile("mx.test")
LENIENT = Profile("mx.test", lenient=True)
OK = answers.NOTHING_DONE
MECHANISMS = {"AUTH": "PLAIN LOGIN"}
_EVERYTHING = Profile("mx.test", extensions=ALL)
#: Any listener, and any client.
PROFILES = st.sampled_from(
    [
        STRICT,
        LENIENT,
        _EVERYTHING,
        evolve(_EVERYTHING, lmtp=True),
        evolve(_EVERYTHING, requires_tls=True),
        evolve(_EVERYTHING, requires_auth=True),
        evolve(_EVERYTHING, lenient=True, requires_tls=True, requires_auth=True),
    ]
)
STANDINGS = st.builds(Standing, st.booleans(), st.booleans(), st.booleans(), st.booleans())


def agree(question: Question) -> Reply:
    """The friendliest answer there is."""
    match question:
        case Misspoken(reply) | Cancelled(reply):
            return reply
        case StartTls() | XClient():
            return answers.GO_AHEAD
        case Auth(initial=None):
            return Reply.of(334, None, "")
        case Auth() | Response():
            return Reply.of(235, "2.7.0", "It is you")
        case Data():
            return answers.SEND_CONTENT
        case ContentEnded(_, fault) | ChunkEnded(_, fault):
            return fault or OK
        case Quit():
            return Reply.of(221, "2.0.0", "bye")
        case _:
            return OK


class Plodding(ServerSession):
    """Reads each line word by word."""

    __slots__ = ()

    def _hear_line(self, octets: bytes) -> Question | None:
        return None


def listen(
    pieces: Iterable[bytes],
    answer: Callable[[Question], Reply] = agree,
    profile: Profile = STRICT,
    limits: SessionLimits = SessionLimits(),  # noqa: B008  # frozen
    standing: Standing = STRANGER,
    straight: bool = False,
    kind: type[ServerSession] = ServerSession,
) -> tuple[list[Event], list[int]]:
    """
    What a session hears, with its content in one piece, and the codes of what it says, greeting excluded. `straight`:
    it goes the straight way wherever there is one.
    """
    session = kind(profile, limits, standing, MECHANISMS)
    assert session.next_event() == Connected()
    session.send(OK)
    heard: list[Event] = []
    said: list[int] = []
    for piece in pieces:
        if straight and (question := session.hear(piece) or session.hear_content(piece)) is not None:
            if isinstance(question, ContentEnded):
                heard.append(Content(piece))
            heard.append(question)
            said.append(int(session.send(answer(question))[:3]))
            continue
        session.receive_data(piece)
        while (event := session.next_event()) is not None:
            if isinstance(event, Content):
                if heard and isinstance(heard[-1], Content):
                    heard[-1] = Content(heard[-1].octets + event.octets, event.form)
                else:
                    heard.append(event)
                continue
            heard.append(event)
            said.append(int(session.send(answer(event))[:3]))
    return heard, said


WORDS = st.sampled_from(
    [
        b"EHLO c\r\n",
        b"HELO c\r\n",
        b"MAIL FROM:<a@b.test>\r\n",
        b"mail from: a@b.test\r\n",
        b"MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
        b"RCPT TO:<c@d.test>\r\n",
        b"RCPT TO:<c@d.test\r\n",
        b"DATA\r\n",
        b"BDAT 6\r\nNOOP\r\n",
        b"BDAT 3\r\nx\r\n",
        b"BDAT 0 LAST\r\n",
        b"bdat 5 last\r\nabc\r\n",
        b"Subject: x\r\n\r\n..\r\nbody\r\n.\r\n",
        b".\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"HELP MAIL\r\n",
        b"VRFY x\r\n",
        b"LHLO c\r\n",
        b"STARTTLS\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"YQ==\r\n",
        b"*\r\n",
        b"EXPN x\r\n",
        b"ETRN x.test\r\n",
        b"XCLIENT LOGIN=ann\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME PRDR\r\n",
        b"RCPT TO:<c@d.test> NOTIFY=NEVER\r\n",
        b"NONSENSE\r\n",
        b"QUIT\r\n",
        b"\r\n",
        b"\x00\xff\r\n",
        b"x\n",
        b"x" * 3000,
        b"\r",
    ]
)
DIALOGUES = st.lists(WORDS, max_size=14).map(b"".join)
ENVELOPE = b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
#: Most dialogues should get somewhere.
TALKS = st.tuples(
    st.sampled_from([b"", b"EHLO c\r\n", ENVELOPE, ENVELOPE + b"DATA\r\n"]),
    DIALOGUES,
).map(b"".join)


#: What most clients say, each in a segment of its own.
USUAL = st.sampled_from(
    [
        b"MAIL FROM:<a@b.test>\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME PRDR\r\n",
        b"RCPT TO:<c@d.test>\r\n",
        b"DATA\r\n",
        b"x\r\n.\r\n",
        b".\r\n",
        b"x\r\n..\r\n.\r\n",
        b"x\n\r\n.\r\n",
        b"x" * 70 + b"\r\n.\r\n",
        b"x\r\n.\r\nMAIL FROM:<a@b.test>\r\n",
        b"x\r\n",
        b"MAIL FROM:<a@b.test> SIZE=70\r\n",
        "MAIL FROM:<ä@b.test> SMTPUTF8\r\n".encode(),
        "RCPT TO:<ä@b.test>\r\n".encode(),
        b"BDAT 20\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
    ]
)
#: Segments of clients, some of whom come as far as to content.
SEGMENTS = st.lists(
    st.one_of(
        USUAL.map(lambda octets: [octets]),
        st.tuples(USUAL, USUAL, USUAL).map(lambda more: [*KNOWN[1:4], *more]),
        st.deferred(lambda: WORDS).map(lambda octets: [octets]),
    ),
    max_size=10,
).map(lambda parts: [octets for part in parts for octets in part])
LIMITS = st.sampled_from(
    [
        SessionLimits(),
        SessionLimits(recipients=2, messages=2, in_turn=True, idle_commands=3),
        SessionLimits(message=60, content_line=50, errors_slow=3, errors=6),
    ]
)
#: What any session has heard.
KNOWN = [b"EHLO c\r\n", b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<c@d.test>\r\n", b"DATA\r\n", b"x\r\n.\r\n"]


class ServerSessionTests(SynchronousTestCase):
    def test_a_whole_session_is_heard(self) -> None:
        heard, said = listen(
            [
                b"EHLO c.test\r\nMAIL FROM:<a@b.test> SIZE=30 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<c@d.test>\r\n"
                b"RCPT TO:<Postmaster>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\nNOOP\r\n"
            ]
        )
        self.assertEqual(
            heard,
            [
                Hello(True, "c.test", STRICT.keywords(STRANGER, None)),
                Mail(Address("a", "b.test"), 30, Body.EIGHT_BIT, True),
                Rcpt(Address("c", "d.test")),
                Rcpt(Address("postmaster", "mx.test")),
                Data(),
                Content(b"Subject: x\r\n\r\n..\r\n.\r\n"),
                ContentEnded(17),
                Reset(),
                Noop(),
                Quit(),
            ],
        )
        self.assertEqual(said, [250, 250, 250, 250, 354, 250, 250, 250, 221])

    @given(TALKS, st.lists(st.integers(0, 9), max_size=30), PROFILES, STANDINGS)
    def test_where_the_network_cuts_means_nothing(
        self, octets: bytes, cuts: list[int], profile: Profile, standing: Standing
    ) -> None:
        # But for overlong lines, of which we have only seen the beginning when we complain; and for STARTTLS, behind
        # which nothing may come.
        octets = octets.replace(b"x" * 3000, b"").replace(b"STARTTLS\r\n", b"")
        whole = listen([octets], profile=profile, standing=standing)
        self.assertEqual(listen(cut(octets, cuts), profile=profile, standing=standing), whole)

    @given(st.lists(st.one_of(WORDS, st.binary(max_size=40)), max_size=30), PROFILES, STANDINGS)
    def test_no_input_raises_and_each_question_gets_one_reply(
        self, pieces: list[bytes], profile: Profile, standing: Standing
    ) -> None:
        heard, said = listen(pieces, profile=profile, standing=standing)
        self.assertEqual(len(said), sum(not isinstance(event, Content) for event in heard))

    @settings(max_examples=300)
    @given(SEGMENTS, PROFILES, STANDINGS, LIMITS, st.booleans())
    def test_the_straight_way_leads_where_the_other_one_does(
        self, pieces: list[bytes], profile: Profile, standing: Standing, limits: SessionLimits, introduced: bool
    ) -> None:
        hello = [b"LHLO c\r\n" if profile.lmtp else b"EHLO c\r\n"] if introduced else []
        listen([*hello, *KNOWN[1:]], profile=profile, standing=standing)
        straight = listen([*hello, *pieces], profile=profile, standing=standing, limits=limits, straight=True)
        told = partial(listen, profile=profile, standing=standing, limits=limits)
        self.assertEqual(straight, told([*hello, *pieces]))
        self.assertEqual(straight, told([*hello, *pieces], kind=Plodding))
        together = [b"".join([*hello, *pieces])]
        self.assertEqual(told(together), told(together, kind=Plodding))

    def test_a_greeting_that_nobody_has_waited_for_is_as_any_other(self) -> None:
        for reply in (OK, Reply.of(554, "5.7.1", "no"), Reply.of(421, "4.7.0", "not now")):
            straight, told = ServerSession(STRICT, SessionLimits()), ServerSession(STRICT, SessionLimits())
            self.assertEqual(straight.opened(), told.next_event())
            self.assertEqual(straight.send(reply), told.send(reply))
            for session in straight, told:
                session.receive_data(b"EHLO c\r\nQUIT\r\n")
            self.assertEqual(straight.next_event(), told.next_event())
            self.assertEqual((straight.state, straight.closed), (told.state, told.closed))

    def test_a_name_that_was_heard_before_is_offered_what_is_this_sessions_own(self) -> None:
        profile, standing = evolve(_EVERYTHING, lmtp=False), Standing(secured=True)
        offers = []
        for words in ({}, MECHANISMS, {}, {"AUTH": "LOGIN"}, MECHANISMS):
            for kind in (ServerSession, Plodding):
                session = kind(profile, SessionLimits(), standing, words)
                session.opened()
                session.send(OK)
                question = session.hear(b"EHLO c\r\n")
                if question is None:
                    session.receive_data(b"EHLO c\r\n")
                    question = session.next_event()
                assert isinstance(question, Hello)
                offers.append((profile.keywords(standing, words) == question.keywords, len(question.keywords)))
        self.assertEqual([as_told for as_told, _ in offers], [True] * 10)
        self.assertNotEqual(offers[0], offers[2])

    def test_so_is_one_by_helo(self) -> None:
        profile = evolve(_EVERYTHING, lmtp=False)
        for words in ({}, MECHANISMS, {}):
            session = ServerSession(profile, SessionLimits(), Standing(secured=True), words, greeted=True)
            for octets in (b"HELO c\r\n", b"EHLO c\r\n", b"HELO c\r\n", b"EHLO c\r\n"):
                question = session.hear(octets)
                if question is None:
                    session.receive_data(octets)
                    question = session.next_event()
                assert isinstance(question, Hello)
                session.send(OK)
                expected = profile.keywords(Standing(secured=True), words) if question.extended else ()
                self.assertEqual(question.keywords, expected)

    def test_who_has_done_what_a_listener_requires_is_heard_straight_like_others(self) -> None:
        profile = evolve(_EVERYTHING, requires_tls=True, requires_auth=True)
        for secured, authenticated in ((False, False), (True, False), (False, True), (True, True)):
            for before in (KNOWN, KNOWN[:1]):
                session = ServerSession(profile, SessionLimits(), Standing(secured, authenticated), MECHANISMS)
                for piece in (b"", *before):
                    session.receive_data(piece)
                    while (event := session.next_event()) is not None:
                        if not isinstance(event, Content):
                            session.send(agree(event))
            self.assertEqual(session.hear(KNOWN[1]) is not None, secured and authenticated)

    def test_a_whole_content_is_heard_straight_in_its_place_alone(self) -> None:
        whole = b"x\r\n.\r\n"
        for before, expected in (
            ([], None),
            (KNOWN[1:3], None),
            (KNOWN[1:4], ContentEnded(3)),
            ([*KNOWN[1:4], b"y"], None),
            ([*KNOWN[1:4], b"\r"], None),
            ([*KNOWN[1:3], b"BDAT 20\r\n"], None),
        ):
            session = ServerSession(_EVERYTHING, SessionLimits())
            for piece in (b"", *KNOWN, *before):
                session.receive_data(piece)
                while (event := session.next_event()) is not None:
                    if not isinstance(event, Content):
                        session.send(agree(event))
            self.assertIsNone(session.hear(whole))
            self.assertEqual(session.hear_content(whole), expected, before)
            self.assertIsNone(session.hear_content(whole))

    def test_where_lines_end_with_lf_a_whole_content_is_heard_as_such_lines(self) -> None:
        session = ServerSession(evolve(_EVERYTHING, lenient=True), SessionLimits())
        for piece in (b"", *(octets.replace(b"\r\n", b"\n") for octets in KNOWN[:4])):
            session.receive_data(piece)
            while (event := session.next_event()) is not None:
                session.send(agree(event))  # type: ignore[arg-type]  # there is no content yet
        self.assertTrue(session.receiving)
        self.assertIsNone(session.hear_content(b"x\r\n.\r\n"))

    def test_what_was_heard_before_is_heard_straight_in_its_place_alone(self) -> None:
        """In content and in chunks commands are octets, and a line that is not whole is none yet."""
        mail, rcpt, data, chunk = KNOWN[1], KNOWN[2], b"DATA\r\n", b"BDAT %d\r\n" % len(KNOWN[2])
        for before, octets, expected in (
            ([], mail, Mail),
            ([mail], mail, None),
            ([mail], rcpt, Rcpt),
            ([mail], data, None),
            ([mail, rcpt], rcpt, Rcpt),
            ([mail, rcpt], data, Data),
            ([mail, rcpt, data], rcpt, None),
            ([mail, rcpt, chunk], rcpt, None),
            ([b"MAIL FROM:"], rcpt, None),
            ([b"x" * 3000], mail, None),
            ([b"MAIL FROM:<>\r"], mail, None),
        ):
            session = ServerSession(_EVERYTHING, SessionLimits())
            for piece in (b"", *KNOWN, b"RSET\r\n", *before):
                session.receive_data(piece)
                while (event := session.next_event()) is not None:
                    if not isinstance(event, Content):
                        session.send(agree(event))
            question = session.hear(octets)
            self.assertEqual(question and type(question), expected, (before, octets))

    def test_who_was_never_heard_of_is_heard_straight_too(self) -> None:
        for before, octets, expected in (
            (KNOWN[:1], b"MAIL FROM:<new@b.test> SIZE=9\r\n", Mail(Address("new", "b.test"), 9)),
            (KNOWN[:2], b"RCPT TO:<new@d.test>\r\n", Rcpt(Address("new", "d.test"))),
            (KNOWN[:2], b"RCPT TO:<new@d.test>\r\nDATA\r\n", None),
            (KNOWN[:2], b"RCPT TO:<new@d.test>\n", None),
            (KNOWN[:2], b"RCPT TO:<new@d.test>\r\r\n", None),
            (KNOWN[:2], b"RCPT TO:<new@d.test", None),
            (KNOWN[:2], "RCPT TO:<neu@dö.test>\r\n".encode(), None),
            (KNOWN[:2], b"RCPT TO:<" + b"x" * 300 + b"@d.test>\r\n", None),
            (KNOWN[:4], b"RCPT TO:<new@d.test>\r\n", None),
            ([*KNOWN[:3], b"BDAT 50\r\n"], b"RCPT TO:<new@d.test>\r\n", None),
            ([], b"MAIL FROM:<new@b.test>\r\n", None),
            ([], b"EHLO new.test\r\n", Hello(True, "new.test", STRICT.keywords(STRANGER, None))),
            ([], b"helo new.test\r\n", Hello(False, "new.test")),
            ([], b"EHLO new.test\n", None),
            ([], b"EHLO new.test\r\nMAIL FROM:<new@b.test>\r\n", None),
            ([], b"EHLO " + b"x" * 300 + b"\r\n", None),
            ([], b"EHLO\r\n", None),
            ([b"EH"], b"LO new.test\r\n", None),
        ):
            session = ServerSession(STRICT, SessionLimits())
            for piece in (b"", *before):
                session.receive_data(piece)
                while (event := session.next_event()) is not None:
                    if not isinstance(event, Content):
                        session.send(agree(event))
            self.assertEqual(session.hear(octets), expected, octets)

    def test_while_a_reply_is_owed_nothing_is_heard_straight(self) -> None:
        session = ServerSession(_EVERYTHING, SessionLimits())
        for piece in (b"", *KNOWN, b"RSET\r\n"):
            session.receive_data(piece)
            while (event := session.next_event()) is not None:
                if not isinstance(event, Content):
                    session.send(agree(event))
        self.assertIsNotNone(session.hear(KNOWN[1]))
        self.assertIsNone(session.hear(KNOWN[2]))

    @given(st.lists(st.sampled_from([b"NOOP\r\n", b"RSET\r\n", b"FOO\r\n", b"MAIL\r\n", b"HELP\r\n"]), max_size=15))
    def test_one_command_one_reply(self, commands: list[bytes]) -> None:
        _, said = listen([b"".join(commands)])
        self.assertEqual(len(said), len(commands))

    @given(TALKS, PROFILES, STANDINGS, st.data())
    def test_nothing_is_asked_in_a_state_that_has_no_row_for_it(
        self, octets: bytes, profile: Profile, standing: Standing, data: st.DataObject
    ) -> None:
        session = ServerSession(profile, SessionLimits(), standing, MECHANISMS)
        session.receive_data(octets)
        while (event := session.next_event()) is not None:
            if isinstance(event, Content):
                self.assertTrue(session.receiving)
                continue
            if isinstance(event, Misspoken):
                session.send(event.reply)
                continue
            state = session.state
            self.assertIn((state, type(event)), MOVES)
            reply = data.draw(st.sampled_from([agree(event), answers.OUR_FAULT, answers.NOT_IMPLEMENTED]))
            session.send(reply)
            if (
                not reply.positive
                and not isinstance(event, Connected | ChunkEnded | ContentEnded | Response | Cancelled)
                and not session.closed
            ):
                self.assertIs(session.state, state)

    def test_there_is_no_next_event_while_an_answer_is_owed(self) -> None:
        session = ServerSession(STRICT, SessionLimits())
        session.receive_data(b"NOOP\r\nNOOP\r\n")
        self.assertEqual(session.next_event(), Connected())
        self.assertIsNone(session.next_event())
        session.send(OK)
        self.assertEqual(session.next_event(), Noop())
        self.assertIsNone(session.next_event())
        self.assertRaises(RuntimeError, lambda: [session.send(OK), session.send(OK)])

    def test_who_is_not_welcome_can_only_quit(self) -> None:
        session = ServerSession(STRICT, SessionLimits())
        session.next_event()
        session.send(Reply.of(554, "5.7.1", "go away"))
        session.receive_data(b"EHLO c\r\nQUIT\r\n")
        event = session.next_event()
        self.assertEqual(event, Misspoken(answers.ONLY_QUIT))
        session.send(answers.ONLY_QUIT)
        self.assertEqual(session.next_event(), Quit())

    def test_a_new_hello_ends_the_transaction_and_what_was_learned(self) -> None:
        _, said = listen([b"EHLO c\r\nMAIL FROM:<a@b> SMTPUTF8\r\nHELO c\r\nMAIL FROM:<a@b> SIZE=1\r\n"])
        self.assertEqual(said, [250, 250, 250, 555])
        _, said = listen(
            ["EHLO c\r\nMAIL FROM:<a@b> SMTPUTF8\r\nRSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<ö@x>\r\n".encode()]
        )
        self.assertEqual(said, [250, 250, 250, 250, 553])

    def test_who_has_not_said_ehlo_is_told_so_rather_than_of_parameters(self) -> None:
        _, said = listen([b"MAIL FROM:<a@b> SIZE=10\r\n"])
        self.assertEqual(said, [503])

    def test_a_421_closes_whatever_it_answers(self) -> None:
        _, said = listen([b"EHLO c\r\nNOOP\r\nNOOP\r\n"], lambda q: answers.STOPPING if q == Noop() else agree(q))
        self.assertEqual(said, [250, 421])

    def test_nothing_of_a_large_message_is_kept_behind_its_end(self) -> None:
        lines = b"x\r\n" * 30_000
        for begin, end in ((b"DATA\r\n", b".\r\n"), (b"BDAT 90000 LAST\r\n", b"")):
            for behind in (b"", b"RSET\r\n"):
                session = ServerSession(Profile("mx.test", extensions=ALL), SessionLimits(), greeted=True)
                large = lines + end + behind
                held = sys.getrefcount(large)
                for octets in (b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", begin, large):
                    session.receive_data(octets)
                    while (event := session.next_event()) is not None:
                        if not isinstance(event, Content):
                            self.assertTrue(session.send(agree(event)).startswith((b"250", b"354")))
                        del event
                del octets
                if behind:
                    # Once something is said that comes alone.
                    self.assertEqual(session.hear(b"QUIT\r\n"), Quit())
                self.assertEqual(sys.getrefcount(large), held)


class ChunkTests(SynchronousTestCase):
    """BDAT (RFC 3030): octets of an announced number, whatever they are."""

    HEAD = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"

    def test_chunks_are_one_message_and_each_has_its_reply(self) -> None:
        heard, said = listen([self.HEAD + b"BDAT 7\r\nhello\r\nBDAT 5\r\n.\r\n..BDAT 2 LAST\r\n\r\nNOOP\r\n"])
        self.assertEqual(
            heard[3:],
            [
                Content(b"hello\r\n", Form.PLAIN),
                ChunkEnded(7),
                Content(b".\r\n..", Form.PLAIN),
                ChunkEnded(12),
                Content(b"\r\n", Form.PLAIN),
                ContentEnded(14),
                Noop(),
            ],
        )
        self.assertEqual(said, [250] * 7)

    def test_a_message_in_chunks_is_not_counted_to_the_one_before_it(self) -> None:
        for end in (b"BDAT 5 LAST\r\nabc\r\n", b"RSET\r\n"):
            heard, _ = listen([ENVELOPE + b"BDAT 5\r\nabc\r\n" + end + ENVELOPE + b"BDAT 5 LAST\r\nabc\r\n"])
            self.assertEqual(heard[-1], ContentEnded(5))

    def test_a_message_may_be_one_chunk_or_no_octet(self) -> None:
        heard, said = listen([self.HEAD + b"BDAT 0 LAST\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3 LAST\r\nx\r\n"])
        self.assertEqual(
            [event for event in heard if isinstance(event, ContentEnded)], [ContentEnded(0), ContentEnded(3)]
        )
        self.assertEqual(set(said), {250})

    def test_what_looks_like_a_command_in_a_chunk_is_content(self) -> None:
        evil = b"x\r\n.\r\nMAIL FROM:<evil@b>\r\n"
        heard, _ = listen([self.HEAD + b"BDAT %d LAST\r\n" % len(evil) + evil])
        self.assertEqual(sum(isinstance(event, Mail) for event in heard), 1)
        self.assertEqual(heard[3], Content(evil, Form.PLAIN))

    def test_a_chunk_that_is_out_of_order_is_swallowed_all_the_same(self) -> None:
        evil = b"MAIL FROM:<evil@b.test>\r\n12345"
        chunk = b"BDAT %d LAST\r\n" % len(evil) + evil
        for before in (b"EHLO c\r\n", b"EHLO c\r\nMAIL FROM:<a@b>\r\n"):
            heard, said = listen([before + chunk + b"NOOP\r\n"])
            self.assertEqual(said[-2:], [503, 250])
            self.assertFalse(any(isinstance(event, Content) for event in heard))

    def test_behind_a_chunk_that_was_refused_there_is_no_transaction(self) -> None:
        no = Reply.of(452, "4.3.1", "no room")
        heard, said = listen(
            [self.HEAD + b"BDAT 3\r\nx\r\nBDAT 3 LAST\r\ny\r\nRCPT TO:<c@d>\r\nMAIL FROM:<a@b>\r\n"],
            lambda q: no if isinstance(q, ChunkEnded) else agree(q),
        )
        self.assertEqual(said[3:], [452, 503, 503, 250])
        self.assertFalse(any(isinstance(event, ContentEnded) for event in heard))

    def test_content_that_has_begun_by_bdat_goes_on_by_bdat(self) -> None:
        _, said = listen(
            [self.HEAD + b"BDAT 3\r\nx\r\nDATA\r\nRCPT TO:<e@f>\r\nMAIL FROM:<a@b>\r\nNOOP\r\nRSET\r\nDATA\r\n"]
        )
        self.assertEqual(said[3:], [250, 503, 503, 503, 250, 250, 503])

    def test_a_bare_newline_in_a_chunk_is_refused_wherever_it_is_cut(self) -> None:
        for text in (b"a\rb", b"a\nb", b"ab\r", b"\nab", b"a\r\r\nb"):
            for cut_at in range(1, len(text)):
                first, last = text[:cut_at], text[cut_at:]
                octets = b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (len(first), first, len(last), last)
                _, said = listen(
                    [self.HEAD + octets], lambda q: q.fault or OK if isinstance(q, ChunkEnded) else agree(q)
                )
                self.assertIn(550, said[3:], octets)

    def test_a_line_that_is_cut_between_chunks_is_no_fault(self) -> None:
        heard, _ = listen([self.HEAD + b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nb"])
        self.assertEqual(heard[-1], ContentEnded(4))

    def test_a_chunk_that_nobody_can_count_closes(self) -> None:
        for arguments in (b"", b"x", b"-1", b"1 FIRST", b"9" * 16, b"0x10", "٣".encode()):
            _, said = listen([self.HEAD + b"BDAT " + arguments + b"\r\nNOOP\r\n"])
            self.assertEqual(said[3:], [421], arguments)

    def test_a_bdat_that_cannot_be_read_closes_since_its_octets_are_on_their_way(self) -> None:
        evil = b"RSET\r\nMAIL FROM:<evil@b.test>\r\n"
        for line in (
            b"BDAT 43 LAST\x0b",
            b"BDAT\t43 LAST",
            b"bdat 43 \xff",
            b"BDAT 43 " + b" " * 3000 + b"LAST",
            b" BDAT\x0043",
            b"\rBDAT 43",
            b"\x00\x7f bdat 43",
            b"BDAT43 LAST",
        ):
            for pieces in ([line + b"\r\n" + evil], [line, b"\r\n", evil]):
                _, said = listen([self.HEAD, *pieces])
                self.assertEqual(said[3:], [421], line[:20])

    def test_a_chunk_too_many_ends_the_transaction(self) -> None:
        _, said = listen([self.HEAD + b"BDAT 1\r\nx" * 3 + b"MAIL FROM:<a@b>\r\n"], limits=SessionLimits(chunks=2))
        self.assertEqual(said[3:], [250, 250, 552, 250])

    def test_chunks_over_the_limits_are_refused(self) -> None:
        limits = SessionLimits(chunks=3, message=100, content_line=50)
        one, line = b"BDAT 1\r\nx", b"x" * 48 + b"\r\n"
        for octets, codes in (
            (one * 4, [250, 250, 250, 552]),
            (b"BDAT 100 LAST\r\n" + line * 2, [250]),
            (b"BDAT 101 LAST\r\n" + line * 2 + b"x", [552]),
            (b"BDAT 52 LAST\r\n" + b"xx" + line, [250]),
            (b"BDAT 53 LAST\r\n" + b"xxx" + line, [554]),
            (b"BDAT 201 LAST\r\n", [421]),
            # A last line without an end.
            (b"BDAT 50 LAST\r\n" + b"x" * 50, [250]),
            (b"BDAT 51 LAST\r\n" + b"x" * 51, [554]),
            (b"BDAT 51\r\n" + b"x" * 51 + b"BDAT 0 LAST\r\n", [250, 554]),
            (b"BDAT 51\r\n" + b"x" * 50 + b"\rBDAT 1 LAST\r\n\n", [250, 250]),
        ):
            _, said = listen([self.HEAD + octets], limits=limits)
            self.assertEqual(said[3:], codes, octets[:20])

    def test_after_helo_there_is_no_bdat(self) -> None:
        _, said = listen([b"HELO c\r\nBDAT 3 LAST\r\n"])
        self.assertEqual(said, [250, 421])


class LimitTests(SynchronousTestCase):
    def limited(self, **limits: int) -> SessionLimits:
        return evolve(SessionLimits(), **limits)

    def test_an_overlong_command_is_refused_once_and_then_the_connection_closed(self) -> None:
        for pieces in (
            [b"NOOP " + b"x" * 2048 + b"\r\nNOOP\r\n"],
            [b"NOOP " + b"x" * 2048, b"x" * 5000, b"\r\nNOOP\r\n"],
        ):
            _, said = listen([b"EHLO c\r\n", *pieces, b"y" * 9000, b"\r\nNOOP\r\n"])
            self.assertEqual(said, [250, 500, 250, 421])
        _, said = listen([b"EHLO c\r\nNOOP " + b"x" * (2048 - 7) + b"\r\n"])
        self.assertEqual(said, [250, 250])

    def test_an_endless_line_takes_no_memory(self) -> None:
        session = ServerSession(STRICT, SessionLimits())
        session.next_event()
        session.send(OK)
        for _ in range(1000):
            session.receive_data(b"x" * 1000)
            if session.next_event() is not None:
                session.send(answers.LINE_TOO_LONG)
            self.assertLess(session.buffered, 4096)

    def test_recipients_over_the_limit_are_for_the_next_transaction(self) -> None:
        _, said = listen(
            [
                b"EHLO c\r\nMAIL FROM:<a@b>\r\n"
                + b"RCPT TO:<c@d>\r\n" * 102
                + b"RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
            ],
            limits=self.limited(recipients=100),
        )
        self.assertEqual(said, [250, 250, *[250] * 100, 452, 452, 250, 250, 250])

    def test_a_size_over_the_limit_is_refused_at_mail(self) -> None:
        limits = self.limited(message=100)
        _, said = listen([b"EHLO c\r\nMAIL FROM:<a@b> SIZE=101\r\nMAIL FROM:<a@b> SIZE=100\r\n"], limits=limits)
        self.assertEqual(said, [250, 552, 250])

    def test_errors_are_answered_slowly_and_then_no_more(self) -> None:
        session = ServerSession(STRICT, self.limited(errors_slow=2, errors=4))
        session.next_event()
        session.send(OK)
        session.receive_data(b"FOO\r\n" * 9)
        slow = []
        while (event := session.next_event()) is not None:
            assert isinstance(event, Misspoken)
            said = session.send(event.reply)
            slow.append((session.slow, said[:3]))
        self.assertEqual(slow, [(False, b"500"), (False, b"500"), (True, b"500"), (True, b"421")])
        self.assertTrue(session.closed)

    def test_a_refused_recipient_is_an_error_too(self) -> None:
        no = Reply.of(550, "5.1.1", "unknown")
        _, said = listen(
            [b"EHLO c\r\nMAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * 5],
            lambda q: no if isinstance(q, Rcpt) else agree(q),
            limits=self.limited(errors_slow=2, errors=3),
        )
        self.assertEqual(said, [250, 250, 550, 550, 421])

    def test_idling_ends_but_a_message_makes_good_for_it(self) -> None:
        message = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n"
        limits = self.limited(idle_commands=3)
        _, said = listen([b"EHLO c\r\nNOOP\r\nRSET\r\n" + message + b"NOOP\r\n" * 4], limits=limits)
        self.assertEqual(said, [250, 250, 250, 250, 250, 354, 250, 250, 250, 250, 421])

    def test_a_connection_carries_so_many_messages(self) -> None:
        message = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n"
        _, said = listen([b"EHLO c\r\n" + message * 3], limits=self.limited(messages=2))
        self.assertEqual(said, [250, *[250, 250, 354, 250] * 2, 421])

    def test_the_trusted_may_idle_and_send_as_they_like(self) -> None:
        message = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nNOOP\r\n"
        limits = SessionLimits(idle_commands=None, messages=None)
        _, said = listen([b"EHLO c\r\n" + message * 1200 + b"NOOP\r\n" * 300], limits=limits)
        self.assertNotIn(421, said)

    def test_content_much_too_large_is_not_waited_for(self) -> None:
        _, said = listen(
            [b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", *[b"x" * 998 + b"\r\n"] * 10],
            lambda q: agree(q),
            limits=self.limited(message=2000),
        )
        self.assertEqual(said, [250, 250, 250, 354, 421])

    @settings(max_examples=5, deadline=None)
    @given(st.sampled_from([b"x", b"\r", b"\r\n.", b".", b"\n"]))
    def test_time_is_linear_in_the_content(self, unit: bytes) -> None:
        def seconds(octets: int) -> float:
            content = unit * (octets // len(unit))
            best = []
            for _ in range(3):
                began = time.thread_time()
                listen([b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", content])
                best.append(time.thread_time() - began)
            return min(best)

        small, large = seconds(200_000), seconds(3_200_000)
        # Sixteen times as much may take forty times as long on a busy machine; a quadratic way takes 256 times.
        self.assertLess(large, max(small, 0.002) * 80)


class VerdictTests(SynchronousTestCase):
    """Replies behind a content where recipients differ: LMTP (RFC 2033 section 4.2) and PRDR."""

    NO = Reply.of(450, "4.2.1", "not this one")
    EACH = (OK, NO, OK)

    def said(self, verdict: Answer, *, lmtp: bool = False, prdr: bool = False, bdat: bool = False) -> list[bytes]:
        """What is said behind the content of a message for three; and to NOOP, which follows."""
        session = ServerSession(Profile("mx.test", extensions=ALL, lmtp=lmtp), SessionLimits(), greeted=True)
        hello, mail = b"LHLO" if lmtp else b"EHLO", b" PRDR" if prdr else b""
        opening = hello + b" c\r\nMAIL FROM:<a@b>" + mail + b"\r\n" + b"RCPT TO:<c@d>\r\n" * 4
        content = b"BDAT 3\r\nx\r\nBDAT 0 LAST\r\n" if bdat else b"DATA\r\nx\r\n.\r\n"
        session.receive_data(opening + content + b"NOOP\r\n")
        behind = []
        refused = False
        while (event := session.next_event()) is not None:
            if isinstance(event, Content):
                continue
            if isinstance(event, ContentEnded):
                behind.append(session.send(verdict))
            elif isinstance(event, Rcpt) and not refused:
                # One is no recipient at all, and is not heard of any more.
                refused = True
                session.send(self.NO)
            elif isinstance(event, Noop):
                behind.append(session.send(OK))
            else:
                session.send(agree(event))
        return [line for octets in behind for line in octets.splitlines(keepends=True)]

    def test_lmtp_hears_of_each_and_of_no_other(self) -> None:
        for bdat in (False, True):
            said = self.said(Verdicts(self.EACH, self.NO), lmtp=True, bdat=bdat)
            self.assertEqual(said, [OK.wire, self.NO.wire, OK.wire, OK.wire])
            # Where there is one answer for all, each hears that.
            self.assertEqual(self.said(self.NO, lmtp=True, bdat=bdat), [self.NO.wire] * 3 + [OK.wire])

    def test_prdr_hears_of_each_and_then_of_all(self) -> None:
        for bdat in (False, True):
            for over_all in (OK, self.NO):
                said = self.said(Verdicts(self.EACH, over_all), prdr=True, bdat=bdat)
                each = [one.wire for one in (answers.EACH_FOLLOWS, *self.EACH, over_all)]
                self.assertEqual(said, [*each, OK.wire])
            self.assertEqual(self.said(OK, prdr=True, bdat=bdat), [OK.wire] * 2)

    def test_who_has_asked_for_neither_hears_one_reply(self) -> None:
        self.assertEqual(self.said(Verdicts(self.EACH, self.NO)), [self.NO.wire, OK.wire])

    def test_a_421_is_said_once_and_nothing_behind_it(self) -> None:
        for options in ({"lmtp": True}, {"prdr": True}, {}):
            for verdict in (answers.STOPPING, Verdicts(self.EACH, answers.STOPPING)):
                self.assertEqual(self.said(verdict, **options), [answers.STOPPING.wire])


class LinearTests(SynchronousTestCase):
    """Whoever sends twice as much costs us twice as much, and not four times. Limits that would hide that are off."""

    LIMITS = SessionLimits(command_line=10**8, auth_line=10**8, idle_commands=None, messages=None, errors=10**8)
    KNOWN = Standing(secured=True, trusted=True, introducing=True)
    #: The beginning of a line, what is repeated, and the end.
    LINES = (
        *(
            (b"NOOP ", b"x", b""),
            (b"", b" ", b"NOOP"),
            (b"", b"x ", b""),
            (b"EHLO ", b"a.", b""),
            (b"HELP ", b"\0", b""),
        ),
        *((b"MAIL FROM:<", b"a", b"@b>"), (b"MAIL FROM:<a@", b"b.", b"c>"), (b'MAIL FROM:<"', b'\\"', b'"@b>')),
        *(
            (b'RCPT TO:<"', b"\\", b""),
            (b"RCPT TO:<", b"<", b""),
            (b"MAIL FROM:<> ", b"X=1 ", b""),
            (b"VRFY ", b"<@", b""),
        ),
        *((b"MAIL FROM:<> ", b"A" * 7 + b"1", b"=1"), (b"MAIL FROM:<> SIZE=", b"9", b""), (b"ETRN ", b"a.", b"b")),
        *(
            (b"MAIL FROM:<> ENVID=", b"+41", b""),
            (b"MAIL FROM:<> AUTH=", b"+41", b"@b"),
            (b"MAIL FROM:<> BY=", b"9", b";R"),
        ),
        *((b"MAIL FROM:<> HOLDUNTIL=", b"2030-", b""), (b"MAIL FROM:<> MT-PRIORITY=", b"-", b"1")),
        *((b"XCLIENT ", b"NAME=a ", b""), (b"XCLIENT HELO=", b"+41", b""), (b"XCLIENT ADDR=", b"1.", b"1")),
        *((b"AUTH PLAIN ", b"AAAA", b""), (b"AUTH PLAIN ", b"=", b""), (b"AUTH ", b"X", b""), (b"BDAT ", b"0", b"")),
        (b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b> ORCPT=rfc822;", b"+41", b""),
        (b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b> NOTIFY=", b"DELAY,", b"DELAY"),
        *((b"", b"NOOP\r\n", b""), (b"", b"\r\n", b""), (b"", b"AUTH\r\n", b""), (b"", b"XCLIENT NAME\r\n", b"")),
        *((b"EHLO c\r\n", b"AUTH LOGIN\r\n*\r\n", b""), (b"EHLO c\r\nAUTH LOGIN\r\n", b"AAAA", b"")),
        (b"EHLO c\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<a@b>\r\n", b"BDAT 1\r\n\n", b""),
    )

    def seconds(self, line: tuple[bytes, bytes, bytes], octets: int) -> float:
        begin, unit, end = line
        profile = Profile("mx.test", extensions=ALL)
        said = begin + unit * (octets // len(unit)) + end + b"\r\n"
        best = []
        for _ in range(3):
            session = ServerSession(profile, self.LIMITS, self.KNOWN, {"AUTH": "PLAIN LOGIN"}, greeted=True)
            began = time.thread_time()
            session.receive_data(said)
            while (event := session.next_event()) is not None:
                if isinstance(event, Cancelled):
                    session.send(event.reply)
                elif not isinstance(event, Content):
                    session.send(Reply.of(334, None, "") if isinstance(event, Auth) else agree(event))
            best.append(time.thread_time() - began)
        return min(best)

    def test_time_is_linear_in_what_is_said(self) -> None:
        for line in self.LINES:
            small, large = self.seconds(line, 4_000), self.seconds(line, 64_000)
            with self.subTest(line):
                # Sixteen times as much may take forty times as long on a busy machine; a quadratic way takes 256 times.
                self.assertLess(large, max(small, 0.001) * 80)

    def test_an_address_that_cannot_be_read_is_not_read_over_and_over(self) -> None:
        read: list[str] = []

        def note(text: str) -> Address:
            read.append(text)
            return parse_address(text)

        self.patch(commands, "parse_address", note)
        session = ServerSession(Profile("mx.test"), SessionLimits(), greeted=True)
        session.receive_data(b"EHLO c\r\n")
        session.send(agree(session.next_event()))
        for octets in (b"MAIL FROM:<a@-b->\r\n", b"MAIL FROM:<c@-d->\r\nMAIL FROM:<e@-f->\r\n"):
            self.assertIsNone(session.hear(octets))
            session.receive_data(octets)
            while (event := session.next_event()) is not None:
                self.assertTrue(session.send(agree(event)).startswith(b"501 5.1.7 "))
        # By the short way, and by that which knows why.
        self.assertEqual(read, ["a@-b-", "a@-b-", "c@-d-", "c@-d-", "e@-f-", "e@-f-"])

    def test_it_means_nothing_for_the_time_how_small_the_pieces_are(self) -> None:
        """Up to the limits, that is: what has not ended is looked at again with each piece."""
        session = ServerSession(Profile("mx.test", extensions=ALL), SessionLimits(), self.KNOWN, greeted=True)
        began = time.thread_time()
        for octet in b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n" + b"x" * 30_000:
            session.receive_data(bytes((octet,)))
            while (event := session.next_event()) is not None:
                if not isinstance(event, Content):
                    session.send(agree(event))
        self.assertLess(time.thread_time() - began, 5)


class EarlyTests(SynchronousTestCase):
    """Who has to wait for its turn (`SessionLimits.in_turn`), and does not."""

    LIMITS = SessionLimits(in_turn=True)

    def session(self, *, late: bool) -> ServerSession:
        """One that asks whether content may be sent; it has been answered up to there."""
        session = ServerSession(STRICT, self.LIMITS)
        session.next_event()
        session.send(OK)
        session.receive_data(ENVELOPE + b"DATA\r\n" + (b"" if late else b"x\r\n"))
        while not isinstance(event := session.next_event(), Data | Misspoken):
            assert event is not None
            assert not isinstance(event, Content)
            session.send(OK)
        return session

    def test_who_talks_before_the_greeting_is_not_greeted(self) -> None:
        for at_once in (True, False):
            session = ServerSession(STRICT, self.LIMITS)
            if not at_once:
                self.assertEqual(session.next_event(), Connected())
            session.receive_data(b"EHLO c\r\n")
            event = session.next_event()
            if at_once:
                assert isinstance(event, Misspoken)
                self.assertEqual(event.reply, answers.OUT_OF_TURN)
            self.assertEqual(session.send(answers.OUT_OF_TURN if at_once else OK)[:3], b"554")
            self.assertTrue(session.closed)

    def test_who_sends_content_before_it_is_asked_for_is_cut_off(self) -> None:
        session = self.session(late=False)
        self.assertEqual(session.send(answers.OUT_OF_TURN)[:3], b"554")
        self.assertTrue(session.closed)

    def test_nor_may_content_come_while_the_answer_is_waited_for(self) -> None:
        session = self.session(late=True)
        session.receive_data(b"Subject: x\r\n")
        self.assertEqual(session.send(answers.SEND_CONTENT)[:3], b"554")
        self.assertTrue(session.closed)
        session = self.session(late=True)
        self.assertEqual(session.send(answers.SEND_CONTENT)[:3], b"354")

    def test_nothing_may_come_while_the_answer_to_starttls_is_waited_for(self) -> None:
        for come in (b"", b"NOOP\r\n"):
            session = ServerSession(Profile("mx.test", extensions=ALL), SessionLimits())
            session.receive_data(b"EHLO c\r\nSTARTTLS\r\n")
            for _ in range(2):
                session.next_event()
                session.send(OK)
            self.assertEqual(session.next_event(), StartTls())
            session.receive_data(come)
            self.assertEqual(session.send(answers.GO_AHEAD)[:3], b"421" if come else b"220")
            self.assertIs(session.state, State.CLOSED if come else State.HANDSHAKE)
            self.assertIsNone(session.next_event())

    def test_a_refusal_stays_what_it_is(self) -> None:
        session = self.session(late=True)
        session.receive_data(b"RSET\r\n")
        self.assertEqual(session.send(answers.OUR_FAULT)[:3], b"451")
        self.assertEqual(session.next_event(), Reset())

    def test_everything_else_may_be_said_ahead(self) -> None:
        _, said = listen([ENVELOPE + b"RSET\r\nBDAT 3\r\nx\r\nDATA\r\nNOOP\r\n"], limits=self.LIMITS)
        self.assertEqual(said, [250, 250, 250, 250, 503, 503, 250])


class SmugglingTests(SynchronousTestCase):
    HEAD = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"

    def test_a_second_message_cannot_hide_in_the_first(self) -> None:
        evil = b"MAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nevil\r\n.\r\n"
        for ending in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\x00.\r\n"):
            for profile in (STRICT, LENIENT):
                with self.subTest(f"{ending!r} {profile.lenient}"):
                    heard, _ = listen([self.HEAD + b"one" + ending + evil], profile=profile)
                    self.assertEqual(sum(isinstance(event, Mail) for event in heard), 1)

    def test_a_bare_lf_ends_no_command_on_a_strict_listener(self) -> None:
        heard, said = listen([b"EHLO c\r\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n"])
        self.assertEqual(heard[1:], [Misspoken(answers.NEWLINE_ALONE)])
        self.assertEqual(said, [250, 421])

    def test_the_first_command_decides_for_the_whole_lenient_session(self) -> None:
        _, said = listen([b"EHLO c\r\nNOOP\n"], profile=LENIENT)
        self.assertEqual(said, [250, 421])
        _, said = listen([b"EHLO c\nNOOP\nNOOP\r\n"], profile=LENIENT)
        self.assertEqual(said, [250, 250, 501])

    def test_a_cr_inside_a_command_is_no_line_end(self) -> None:
        _, said = listen([b"EHLO c\r\nNOOP x\rRSET\r\n"])
        self.assertEqual(said, [250, 501])
