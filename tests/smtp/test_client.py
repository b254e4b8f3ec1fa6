from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Fact, Need, Peer, Phase, Unsuitable
from relay.mail.reply import Reply
from relay.smtp.client import QUIT_SECONDS, ClientSession, Deadlines
from relay.smtp.features import Features, offered_by
from relay.smtp.replies import ReplyReader
from relay.smtp.transaction import Over, Proceed, Ready, Settled, Transaction, TurnedAway

PEER = Peer("mx.example.net", "192.0.2.9")
JON = Address.parse("jon@example.net")
ANN = Address.parse("ann@example.net")
JÖRG = Address.parse("jörg@example.net")
SENDER = Address.parse("sender@example.org")

PIPELINING = b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
#: The same but for PIPELINING.
STEPWISE = b"250-mx\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
GREETING = b"220 mx ESMTP\r\n"
OK = b"250 Ok\r\n"
GO_ON = b"354 Go on\r\n"
#: What stands for the content in what was said.
CONTENT = b"(content)\r\n"

ONE = Transaction(SENDER, (JON,))
TWO = Transaction(SENDER, (JON, ANN))


def whole(octets: bytes) -> list[bytes]:
    return [octets]


def singly(octets: bytes) -> list[bytes]:
    return [octets[index : index + 1] for index in range(len(octets))]


@frozen
class Talk:
    """What came of a conversation."""

    #: The facts of each transaction, or the one that there was instead.
    facts: tuple[tuple[Fact, ...], ...]
    turned_away: Fact | None
    #: What left in one write, one after the other.
    said: tuple[bytes, ...] = field(converter=tuple)
    politely: bool | None = None


class Adapter:
    """A client that has `transactions` to begin, and a server that follows a script."""

    def __init__(
        self, transactions: Sequence[Transaction], cut: Callable[[bytes], Iterable[bytes]], ahead: bool = False
    ) -> None:
        self.session = ClientSession("relay.example.org", PEER)
        self.waiting = list(transactions)
        self.cut = cut
        self.ahead = ahead
        self.said: list[bytes] = []
        self.facts: list[tuple[Fact, ...]] = []
        self.turned_away: Fact | None = None
        self.politely: bool | None = None

    def follow(self, script: Sequence[bytes]) -> Talk:
        """The first of the script is the greeting; each next one is what is said to the next thing that we say."""
        replies = list(script)
        due = 1
        self.session.connected()
        while due and replies and not self.session.over:
            octets, replies = b"".join(replies[:due]), replies[due:]
            due = 0
            for piece in self.cut(octets):
                self.session.receive_data(piece)
                due += self.turn()
        self.session.break_off(Breakage.LOST)
        self.turn()
        return Talk(tuple(self.facts), self.turned_away, self.said, self.politely)

    def turn(self) -> int:
        """Do what the events ask for; how many replies are due for what was said."""
        content = b""
        while (event := self.session.next_event()) is not None:
            match event:
                case Ready():
                    self.begin_next()
                case TurnedAway(fact):
                    self.turned_away = fact
                case Proceed():
                    content = CONTENT
                    self.session.content_sent()
                    if self.ahead and self.waiting and self.session.can_begin:
                        self.begin_next()
                case Settled(facts):
                    self.facts.append(facts)
                    if not self.ahead or self.session.idle:
                        self.begin_next()
                case Over(politely):
                    self.politely = politely
        octets = content + self.session.data_to_send()
        if octets:
            self.said.append(octets)
        return octets.count(b"\r\n")

    def begin_next(self) -> None:
        if self.session.over:
            return
        if self.waiting:
            self.session.begin(self.waiting.pop(0))
        else:
            self.session.quit()


def talk(*script: bytes, cut: Callable[[bytes], Iterable[bytes]] = whole, transaction: Transaction = TWO) -> Talk:
    return Adapter([transaction], cut).follow(script)


def carried(text: str = "250 Ok") -> Carried:
    return Carried(onward=True, by="mx.example.net[192.0.2.9]:25", text=text)


def answered(code: int, text: str, phase: Phase, status: str | None = None) -> Answered:
    return Answered(Reply.of(code, status, text), phase, PEER)


class DialogueTests(SynchronousTestCase):
    def test_a_pipelining_server_is_told_everything_at_once(self) -> None:
        heard = talk(GREETING, PIPELINING, OK, OK, OK, GO_ON, b"250 2.0.0 Queued as X\r\n", b"221 Bye\r\n")
        self.assertEqual(
            heard,
            Talk(
                ((carried("250 2.0.0 Queued as X"),) * 2,),
                None,
                (
                    b"EHLO relay.example.org\r\n",
                    b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<jon@example.net>\r\n"
                    b"RCPT TO:<ann@example.net>\r\nDATA\r\n",
                    CONTENT,
                    b"QUIT\r\n",
                ),
                politely=True,
            ),
        )

    def test_a_server_without_pipelining_is_told_one_thing_at_a_time(self) -> None:
        heard = talk(GREETING, STEPWISE, OK, OK, OK, GO_ON, OK, b"221 Bye\r\n")
        self.assertEqual(heard.facts, ((carried(), carried()),))
        self.assertEqual(
            heard.said,
            (
                b"EHLO relay.example.org\r\n",
                b"MAIL FROM:<sender@example.org>\r\n",
                b"RCPT TO:<jon@example.net>\r\n",
                b"RCPT TO:<ann@example.net>\r\n",
                b"DATA\r\n",
                CONTENT,
                b"QUIT\r\n",
            ),
        )

    def test_the_null_reverse_path_is_empty(self) -> None:
        said = talk(GREETING, PIPELINING, transaction=Transaction(None, (JON,))).said
        self.assertTrue(said[1].startswith(b"MAIL FROM:<>\r\n"))

    def test_a_server_that_does_not_know_ehlo_is_told_helo(self) -> None:
        for refusal in (b"500 What?\r\n", b"502 Not here\r\n", b"550 No\r\n"):
            heard = talk(GREETING, refusal, b"250 mx\r\n", OK, OK, OK, GO_ON, OK, b"221 Bye\r\n")
            self.assertEqual(heard.facts, ((carried(), carried()),))
            self.assertEqual(heard.said[1:3], (b"HELO relay.example.org\r\n", b"MAIL FROM:<sender@example.org>\r\n"))

    def test_a_server_that_refuses_to_talk_is_told_quit_and_everybody_is_answered_with_its_words(self) -> None:
        for script, fact in (
            ([b"554 No mail here\r\n"], answered(554, "No mail here", Phase.GREETING)),
            ([b"450 Later\r\n"], answered(450, "Later", Phase.GREETING)),
            ([GREETING, b"450 Later\r\n"], answered(450, "Later", Phase.HELLO)),
            ([GREETING, b"550 No\r\n", b"550 No\r\n"], answered(550, "No", Phase.HELLO)),
            ([GREETING, b"550 No\r\n", b"450 Later\r\n"], answered(450, "Later", Phase.HELLO)),
        ):
            heard = talk(*script, b"221 Bye\r\n")
            self.assertEqual(heard.turned_away, fact)
            self.assertEqual(heard.facts, ())
            self.assertEqual(heard.said[-1], b"QUIT\r\n")
            self.assertTrue(heard.politely)

    def test_a_refused_recipient_does_not_hold_up_the_others(self) -> None:
        for features in (PIPELINING, STEPWISE):
            heard = talk(GREETING, features, OK, b"550 5.1.1 Unknown\r\n", OK, GO_ON, OK)
            self.assertEqual(heard.facts, ((answered(550, "Unknown", Phase.RCPT, "5.1.1"), carried()),))
            heard = talk(GREETING, features, OK, OK, b"450 4.2.1 Busy\r\n", GO_ON, OK)
            self.assertEqual(heard.facts, ((carried(), answered(450, "Busy", Phase.RCPT, "4.2.1")),))

    def test_when_all_recipients_are_refused_no_content_is_sent(self) -> None:
        refusals = (b"550 One\r\n", b"450 Two\r\n")
        facts = ((answered(550, "One", Phase.RCPT), answered(450, "Two", Phase.RCPT)),)
        heard = talk(GREETING, PIPELINING, OK, *refusals, b"554 No recipients\r\n", b"221 Bye\r\n")
        self.assertEqual((heard.facts, heard.said[2:]), (facts, (b"QUIT\r\n",)))
        heard = talk(GREETING, STEPWISE, OK, *refusals, b"221 Bye\r\n")
        self.assertEqual((heard.facts, heard.said[4:]), (facts, (b"QUIT\r\n",)))

    def test_354_after_all_recipients_were_refused_is_answered_by_an_empty_content_which_carries_nothing(self) -> None:
        for last in (OK, b"554 No recipients\r\n", b"450 What\r\n"):
            heard = talk(GREETING, PIPELINING, OK, b"550 One\r\n", b"550 Two\r\n", GO_ON, last, b"221 Bye\r\n")
            self.assertEqual(heard.facts, ((answered(550, "One", Phase.RCPT), answered(550, "Two", Phase.RCPT)),))
            self.assertEqual(heard.said[2:], (b".\r\n", b"QUIT\r\n"))

    def test_a_refused_sender_is_the_answer_for_all_recipients(self) -> None:
        fact = answered(550, "Not you", Phase.MAIL)
        heard = talk(GREETING, PIPELINING, b"550 Not you\r\n", *[b"503 MAIL first\r\n"] * 3, b"221 Bye\r\n")
        self.assertEqual((heard.facts, heard.said[2:], heard.politely), (((fact, fact),), (b"QUIT\r\n",), True))
        heard = talk(GREETING, STEPWISE, b"550 Not you\r\n", b"221 Bye\r\n")
        self.assertEqual((heard.facts, heard.said[2:], heard.politely), (((fact, fact),), (b"QUIT\r\n",), True))

    def test_a_server_that_refused_the_sender_and_goes_on_all_the_same_is_never_sent_an_empty_message(self) -> None:
        heard = talk(GREETING, PIPELINING, b"450 Not you\r\n", OK, OK, GO_ON, OK)
        self.assertEqual(heard.facts, ((answered(450, "Not you", Phase.MAIL),) * 2,))
        self.assertEqual(len(heard.said), 2)
        self.assertFalse(heard.politely)

    def test_refused_data_is_the_answer_for_those_who_were_accepted(self) -> None:
        for features in (PIPELINING, STEPWISE):
            heard = talk(GREETING, features, OK, b"550 No\r\n", OK, b"451 Disk\r\n", b"221 Bye\r\n")
            self.assertEqual(heard.facts, ((answered(550, "No", Phase.RCPT), answered(451, "Disk", Phase.DATA)),))
            self.assertEqual(heard.said[-1], b"QUIT\r\n")

    def test_refused_content_is_the_answer_for_those_who_were_accepted(self) -> None:
        for features in (PIPELINING, STEPWISE):
            heard = talk(GREETING, features, OK, b"550 No\r\n", OK, GO_ON, b"554 5.7.1 Spam\r\n", b"221 Bye\r\n")
            self.assertEqual(
                heard.facts, ((answered(550, "No", Phase.RCPT), answered(554, "Spam", Phase.END, "5.7.1")),)
            )

    def test_421_ends_the_conversation_wherever_it_comes(self) -> None:
        shut = b"421 4.3.2 Shutting down\r\n"
        for features in (PIPELINING, STEPWISE):
            good = [GREETING, features, OK, OK, OK, GO_ON, OK]
            phases = [Phase.GREETING, Phase.HELLO, Phase.MAIL, Phase.RCPT, Phase.RCPT, Phase.DATA, Phase.END]
            for at, phase in enumerate(phases):
                heard = talk(*good[:at], shut, *good[at + 1 :])
                fact = answered(421, "Shutting down", phase, "4.3.2")
                if at < 2:
                    self.assertEqual((heard.turned_away, heard.facts), (fact, ()))
                else:
                    self.assertEqual(heard.facts, ((fact, fact),))
                self.assertNotIn(b"QUIT\r\n", heard.said)
                self.assertFalse(heard.politely)

    def test_a_connection_lost_anywhere_is_a_fact_that_says_where(self) -> None:
        for features in (PIPELINING, STEPWISE):
            good = [GREETING, features, OK, OK, OK, GO_ON]
            phases = [Phase.GREETING, Phase.HELLO, Phase.MAIL, Phase.RCPT, Phase.RCPT, Phase.DATA, Phase.END]
            for count, phase in enumerate(phases):
                heard = talk(*good[:count])
                fact = Broke(Breakage.LOST, phase, PEER)
                if count < 2:
                    self.assertEqual((heard.turned_away, heard.facts), (fact, ()))
                else:
                    self.assertEqual(heard.facts, ((fact, fact),))

    def test_what_makes_no_sense_is_nonsense_wherever_it_comes(self) -> None:
        phases = [Phase.GREETING, Phase.HELLO, Phase.MAIL, Phase.RCPT, Phase.RCPT, Phase.DATA, Phase.END]
        wrong = {
            Phase.GREETING: [GO_ON],
            Phase.HELLO: [GO_ON],
            Phase.MAIL: [GO_ON],
            Phase.RCPT: [GO_ON],
            Phase.DATA: [OK],
            Phase.END: [GO_ON],
        }
        for features in (PIPELINING, STEPWISE):
            good = [GREETING, features, OK, OK, OK, GO_ON, OK]
            for at, phase in enumerate(phases):
                for babble in [
                    *wrong[phase],
                    b"HTTP/1.1 400 Bad Request\r\n",
                    b"250 Ok\n",
                    b"\0\r\n",
                    b"250-a\r\n251 b\r\n",
                ]:
                    heard = talk(*good[:at], babble, *good[at + 1 :])
                    facts = [heard.turned_away] if at < 2 else heard.facts[0]
                    for fact in facts:
                        assert isinstance(fact, Broke), (features, at, babble, fact)
                        self.assertEqual((fact.breakage, fact.phase), (Breakage.NONSENSE, phase))
                        self.assertTrue(fact.text)

    def test_a_second_reply_to_one_command_never_makes_a_message_carried(self) -> None:
        for features in (PIPELINING, STEPWISE):
            good = [GREETING, features, OK, OK, OK, GO_ON, OK]
            for at in range(6):
                heard = talk(*good[:at], good[at] + OK, *good[at + 1 :])
                facts = [heard.turned_away] if heard.turned_away else heard.facts[0] if heard.facts else []
                for fact in facts:
                    assert isinstance(fact, Broke), (features, at, fact)
                    self.assertEqual(fact.breakage, Breakage.NONSENSE)

    def test_a_second_reply_to_the_content_changes_nothing(self) -> None:
        heard = talk(GREETING, PIPELINING, OK, OK, OK, GO_ON, OK + b"550 No\r\n")
        self.assertEqual((heard.facts, heard.politely), (((carried(), carried()),), False))

    def test_a_refusal_amid_the_content_is_an_answer_and_praise_is_not(self) -> None:
        for early, fact in (
            (b"552 5.3.4 Enough\r\n", answered(552, "Enough", Phase.CONTENT, "5.3.4")),
            (b"421 Stop\r\n", answered(421, "Stop", Phase.CONTENT)),
        ):
            heard = talk(GREETING, PIPELINING, OK, OK, OK, GO_ON + early)
            self.assertEqual((heard.facts, heard.politely), (((fact, fact),), False))
        heard = talk(GREETING, PIPELINING, OK, OK, OK, GO_ON + OK)
        (fact, _) = heard.facts[0]
        self.assertEqual(fact, Broke(Breakage.NONSENSE, Phase.CONTENT, PEER, "a reply that nobody asked for: 250 Ok"))


class NeedTests(SynchronousTestCase):
    def mail(self, transaction: Transaction, features: bytes = PIPELINING) -> bytes:
        heard = talk(GREETING, features, transaction=transaction)
        return heard.said[1].partition(b"\r\n")[0]

    def facts(self, transaction: Transaction, *offers: str) -> tuple[Fact, ...]:
        lines = ["mx", *offers]
        features = "".join(f"250{'-' if at < len(lines) else ' '}{line}\r\n" for at, line in enumerate(lines, 1))
        return talk(GREETING, features.encode(), *[OK] * 2, GO_ON, OK, transaction=transaction).facts[0]

    def test_mail_names_what_the_message_needs_and_nothing_else(self) -> None:
        for transaction, line in (
            (ONE, b"MAIL FROM:<sender@example.org>"),
            (evolve(ONE, size=700), b"MAIL FROM:<sender@example.org> SIZE=700"),
            (evolve(ONE, eight_bit=True), b"MAIL FROM:<sender@example.org> BODY=8BITMIME"),
            (evolve(ONE, international=True), b"MAIL FROM:<sender@example.org> BODY=8BITMIME SMTPUTF8"),
            (evolve(ONE, recipients=(JON, JÖRG)), b"MAIL FROM:<sender@example.org> SMTPUTF8"),
            (evolve(ONE, reverse_path=JÖRG), "MAIL FROM:<jörg@example.net> SMTPUTF8".encode()),
            (
                evolve(ONE, size=700, eight_bit=True, international=True),
                b"MAIL FROM:<sender@example.org> SIZE=700 BODY=8BITMIME SMTPUTF8",
            ),
        ):
            self.assertEqual(self.mail(transaction), line)

    def test_what_was_not_offered_is_not_asked_for(self) -> None:
        plain = b"250 mx\r\n"
        self.assertEqual(self.mail(evolve(ONE, size=700), plain), b"MAIL FROM:<sender@example.org>")

    def test_a_message_larger_than_the_server_takes_is_not_begun(self) -> None:
        self.assertEqual(self.facts(evolve(ONE, size=1001), "SIZE 1000"), (Unsuitable(Need.SIZE, PEER),))
        for offer in ("SIZE 1001", "SIZE 0", "SIZE", "SIZE lots"):
            self.assertEqual(self.facts(evolve(ONE, size=1001), offer), (carried(),), offer)

    def test_declared_8_bit_content_is_not_sent_to_a_server_of_7_bits(self) -> None:
        self.assertEqual(self.facts(evolve(ONE, eight_bit=True)), (Unsuitable(Need.EIGHT_BIT, PEER),))
        self.assertEqual(self.facts(evolve(ONE, eight_bit=True), "8BITMIME"), (carried(),))

    def test_international_mail_is_not_sent_to_a_server_of_ascii(self) -> None:
        unsuitable = Unsuitable(Need.SMTPUTF8, PEER)
        self.assertEqual(self.facts(evolve(ONE, international=True)), (unsuitable,))
        self.assertEqual(self.facts(evolve(ONE, reverse_path=JÖRG)), (unsuitable,))
        self.assertEqual(self.facts(evolve(ONE, international=True), "SMTPUTF8"), (carried(),))

    def test_one_international_recipient_does_not_hold_up_the_others(self) -> None:
        self.assertEqual(self.facts(evolve(ONE, recipients=(JÖRG, JON))), (Unsuitable(Need.SMTPUTF8, PEER), carried()))

    def test_a_server_that_was_never_asked_is_told_quit(self) -> None:
        heard = talk(GREETING, b"250 mx\r\n", b"221 Bye\r\n", transaction=evolve(ONE, eight_bit=True))
        self.assertEqual(heard.said, (b"EHLO relay.example.org\r\n", b"QUIT\r\n"))
        self.assertTrue(heard.politely)

    def test_a_quoted_local_part_is_said_as_it_must_be_written(self) -> None:
        self.assertEqual(
            self.mail(evolve(ONE, reverse_path=Address.parse('"a b>\\" c"@[IPv6:2001:DB8::1]'))),
            b'MAIL FROM:<"a b>\\" c"@[IPv6:2001:db8::1]>',
        )

    def test_nothing_that_could_be_two_lines_is_ever_said(self) -> None:
        for local in ("a\r\nRCPT TO:<x@y>\r\n", "a\nb", "a\0b", "a\u2028b", "a\x85b"):
            for transaction in (
                Transaction(Address(local, "example.org"), (JON,)),
                Transaction(SENDER, (JON, Address(local, "example.org"))),
            ):
                self.assertRaises(ValueError, talk, GREETING, PIPELINING, transaction=transaction)
        self.assertRaises(ValueError, ClientSession, "relay\r\nQUIT", PEER)

    def test_a_transaction_that_cannot_be_said_leaves_the_session_as_it_was(self) -> None:
        adapter = Adapter([], whole)
        adapter.session.connected()
        adapter.session.receive_data(GREETING + PIPELINING[:0])
        adapter.session.receive_data(PIPELINING)
        adapter.session.data_to_send()
        self.assertRaises(ValueError, adapter.session.begin, Transaction(Address("a\r\n", "x"), (JON,)))
        self.assertEqual(adapter.session.data_to_send(), b"")
        self.assertTrue(adapter.session.idle)


class FeatureTests(SynchronousTestCase):
    def test_keywords_are_read_and_those_that_nobody_knows_are_kept(self) -> None:
        features = Features.offered(
            ["PIPELINING is my name", "pipelining", "SIZE 5000", "Starttls", "LIMITS RCPTMAX=20", "AUTH=LOGIN", "x y"]
        )
        self.assertEqual(
            features,
            Features(
                pipelining=True,
                size=5000,
                sized=True,
                keywords={
                    "PIPELINING": "",
                    "SIZE": "5000",
                    "STARTTLS": "",
                    "LIMITS": "RCPTMAX=20",
                    "X": "y",
                },
            ),
        )

    def test_of_a_limit_that_is_named_twice_the_first_counts_that_is_one(self) -> None:
        features = Features.offered(["mx", "LIMITS RCPTMAX=0 rcptmax=20 RCPTMAX=30 MAILMAX=x"])
        self.assertEqual(features.limits, {"RCPTMAX": 20})

    def test_a_server_that_only_says_its_name_offers_nothing(self) -> None:
        self.assertEqual(Features.offered(["mx"]), Features())

    def test_a_size_of_more_than_twenty_digits_is_no_limit(self) -> None:
        self.assertEqual(Features.offered(["mx", "SIZE " + "9" * 21]).size, 0)
        self.assertEqual(Features.offered(["mx", "SIZE ²"]).size, 0)


#: Octets that are an answer to EHLO, and octets that are nearly one.
ANSWERS = st.builds(
    lambda lines, code, mark, end, more: (
        b"".join([b"250-" + line + b"\r\n" for line in lines]) + code + mark + end + more
    ),
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"mx.example.org at your service",
                    b"PIPELINING",
                    b"size 1000",
                    b"AUTH PLAIN LOGIN",
                    b"LIMITS RCPTMAX=3",
                ]
            ),
            st.sampled_from(
                [b"", b" DSN", b"2.1.0 mx", b"2.1.0", b"4.7 mx", b"\tDSN", b"DSN\rDSN", b"\xff", b"x" * 505]
            ),
            st.binary(max_size=12),
        ),
        max_size=4,
    ),
    st.sampled_from([b"250", b"250", b"250", b"251", b"220", b"550", b"25"]),
    st.sampled_from([b" ", b" ", b" DSN", b"", b"-", b"-DSN\r\n250 "]),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""]),
    st.sampled_from([b"", b"", b"", b"", b"250 Ok\r\n", b"\r\n", b"2"]),
)


class OffersTests(SynchronousTestCase):
    @given(ANSWERS, st.frozensets(st.sampled_from(["DSN", "AUTH", "PIPELINING"])))
    def test_what_is_seen_at_a_glance_is_what_the_reply_says(self, octets: bytes, without: frozenset[str]) -> None:
        reader = ReplyReader()
        reader.receive_data(octets)
        reply = reader.next_reply()
        seen = offered_by(octets, without)
        if seen is not None:
            assert isinstance(reply, Reply)
            self.assertEqual((reply.code, reader.empty), (250, True))
            self.assertEqual(seen, Features.offered(reply.lines, without))

    def test_most_answers_are_seen_at_a_glance(self) -> None:
        self.assertEqual(
            offered_by(PIPELINING, frozenset({"SMTPUTF8"})),
            Features.offered(["mx", "PIPELINING", "SIZE 1000", "8BITMIME"]),
        )

    def test_what_has_a_status_or_more_than_its_lines_is_looked_at_closely(self) -> None:
        for octets in (
            b"250-2.1.0 mx\r\n250 DSN\r\n",
            PIPELINING + OK,
            PIPELINING[:-2],
            b"250 mx\r\n",
            b"250-mx\r\n251 DSN\r\n",
            b"250-mx\r\n250 D\xffN\r\n",
            b"250-mx\r\n" + b"250-X\r\n" * 60 + b"250 DSN\r\n",
        ):
            self.assertIs(offered_by(octets, frozenset()), None)


class ReuseTests(SynchronousTestCase):
    def test_a_second_transaction_needs_no_second_ehlo(self) -> None:
        heard = Adapter([ONE, TWO], whole).follow(
            [GREETING, PIPELINING, *[OK, OK, GO_ON, OK], *[OK, OK, OK, GO_ON, OK]]
        )
        self.assertEqual(heard.facts, ((carried(),), (carried(), carried())))
        self.assertEqual(heard.said[3], heard.said[1].replace(b"DATA", b"RCPT TO:<ann@example.net>\r\nDATA"))

    def test_the_next_transaction_leaves_in_one_write_with_the_content_before_it(self) -> None:
        adapter = Adapter([ONE, ONE, ONE], whole, ahead=True)
        heard = adapter.follow(
            [
                GREETING,
                PIPELINING,
                OK,
                OK,
                GO_ON,
                b"250 1\r\n",
                OK,
                OK,
                GO_ON,
                b"550 2\r\n",
                OK,
                OK,
                GO_ON,
                b"250 3\r\n",
            ]
        )
        self.assertEqual(heard.facts, ((carried("250 1"),), (answered(550, "2", Phase.END),), (carried("250 3"),)))
        commands = b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<jon@example.net>\r\nDATA\r\n"
        self.assertEqual(heard.said[2:5], (CONTENT + commands, CONTENT + commands, CONTENT))

    def test_a_conversation_that_ends_amid_two_transactions_tells_them_apart(self) -> None:
        script = [GREETING, PIPELINING, OK, OK, GO_ON]
        heard = Adapter([ONE, ONE], whole, ahead=True).follow(script)
        self.assertEqual(
            heard.facts, ((Broke(Breakage.LOST, Phase.END, PEER),), (Broke(Breakage.LOST, Phase.MAIL, PEER),))
        )
        heard = Adapter([ONE, ONE], whole, ahead=True).follow([*script, b"421 Bye\r\n", OK, OK, GO_ON])
        self.assertEqual(heard.facts, ((answered(421, "Bye", Phase.END),), (answered(421, "Bye", Phase.MAIL),)))

    def test_the_facts_of_a_message_that_was_never_sent_wait_for_their_turn(self) -> None:
        adapter = Adapter([ONE, evolve(ONE, size=9999)], whole, ahead=True)
        heard = adapter.follow([GREETING, PIPELINING, OK, OK, GO_ON, OK, b"221 Bye\r\n"])
        self.assertEqual(heard.facts, ((carried(),), (Unsuitable(Need.SIZE, PEER),)))
        self.assertEqual(heard.said[2:], (CONTENT, b"QUIT\r\n"))

    def test_without_pipelining_the_next_transaction_waits(self) -> None:
        session = ClientSession("relay.example.org", PEER)
        session.connected()
        for reply in (GREETING, STEPWISE):
            session.receive_data(reply)
        session.begin(ONE)
        for reply in (OK, OK, GO_ON):
            session.receive_data(reply)
        self.assertFalse(session.can_begin)
        session.content_sent()
        self.assertFalse(session.can_begin)
        self.assertRaises(RuntimeError, session.begin, ONE)
        session.receive_data(OK)
        self.assertTrue(session.can_begin)

    def test_an_abandoned_transaction_is_reset_before_the_next(self) -> None:
        for features in (PIPELINING, STEPWISE):
            refusals = [OK, b"550 No\r\n"] + ([b"554 No\r\n"] if features is PIPELINING else [])
            heard = Adapter([ONE, ONE], whole).follow([GREETING, features, *refusals, OK, OK, OK, GO_ON, OK])
            self.assertEqual(heard.facts, ((answered(550, "No", Phase.RCPT),), (carried(),)))
            self.assertEqual(b"".join(heard.said).count(b"RSET\r\nMAIL"), 1)

    def test_rset_that_is_refused_is_nonsense(self) -> None:
        heard = Adapter([ONE, ONE], whole).follow([GREETING, STEPWISE, b"550 No\r\n", b"550 No\r\n"])
        self.assertEqual(
            heard.facts[1],
            (Broke(Breakage.NONSENSE, Phase.MAIL, PEER, "this is no answer to RSET: 550 No"),),
        )

    def test_a_session_that_ended_while_it_was_idle_says_so_to_the_next_transaction(self) -> None:
        for ending, fact in (
            (b"421 4.4.2 Idle\r\n", answered(421, "Idle", Phase.MAIL, "4.4.2")),
            (b"", Broke(Breakage.LOST, Phase.MAIL, PEER)),
        ):
            session = ClientSession("relay.example.org", PEER)
            session.connected()
            for reply in (GREETING, PIPELINING, ending):
                session.receive_data(reply)
            session.break_off(Breakage.LOST)
            while session.next_event() is not None:
                pass
            session.begin(TWO)
            self.assertEqual(session.next_event(), Settled((fact, fact)))


class DeadlineTests(SynchronousTestCase):
    def test_each_command_has_its_own_deadline_and_an_idle_session_has_none(self) -> None:
        deadlines = Deadlines(connect=1, greeting=2, mail=3, rcpt=4, data=5, block=6, end=7)
        session = ClientSession("relay.example.org", PEER, deadlines)
        seen = [session.deadline]
        session.connected()
        seen.append(session.deadline)
        for reply in (GREETING, STEPWISE):
            session.receive_data(reply)
            seen.append(session.deadline)
        session.begin(ONE)
        seen.append(session.deadline)
        for reply in (OK, OK, GO_ON):
            session.receive_data(reply)
            seen.append(session.deadline)
        session.content_sent()
        seen.append(session.deadline)
        session.receive_data(OK)
        seen.append(session.deadline)
        session.quit()
        seen.append(session.deadline)
        session.receive_data(b"221 Bye\r\n")
        seen.append(session.deadline)
        self.assertEqual(seen, [1, 2, 2, None, 3, 4, 5, 6, 7, None, QUIT_SECONDS, None])

    def test_octets_that_finish_no_reply_do_not_begin_a_deadline_anew(self) -> None:
        session = ClientSession("relay.example.org", PEER)
        session.connected()
        before = session.moves
        for octet in b"220-one more line\r\n220-and one":
            session.receive_data(bytes([octet]))
        self.assertEqual(session.moves, before)
        session.receive_data(b"\r\n220 mx\r\n")
        self.assertGreater(session.moves, before)


#: What may be said to anything: one reply each, or something that is none.
REPLIES = [
    OK,
    OK,
    GREETING,
    PIPELINING,
    STEPWISE,
    GO_ON,
    b"450 4.0.0 Later\r\n",
    b"550-5.0.0 No\r\n550 5.0.0 Never\r\n",
    b"421 Bye\r\n",
    b"250",
    b"250-a\r\n251 b\r\n",
    b"what\r\n",
    b"250 Ok\n",
]
scripts = st.tuples(
    st.sampled_from([GREETING] * 3 + REPLIES),
    st.sampled_from([PIPELINING, STEPWISE] * 3 + REPLIES),
    st.lists(st.sampled_from(REPLIES), max_size=10),
).map(lambda parts: [parts[0], parts[1], *parts[2]])
transactions = st.lists(
    st.sampled_from([ONE, TWO, evolve(TWO, eight_bit=True), Transaction(None, (JÖRG, JON))]), max_size=3
)


class PropertyTests(SynchronousTestCase):
    @given(scripts, transactions, st.booleans(), st.lists(st.integers(1, 30), min_size=1))
    def test_where_the_network_cuts_means_nothing(
        self, script: list[bytes], begun: list[Transaction], ahead: bool, lengths: list[int]
    ) -> None:
        def at_random(octets: bytes) -> Iterable[bytes]:
            at = 0
            for length in lengths * (len(octets) + 1):
                if at >= len(octets):
                    return
                yield octets[at : at + length]
                at += length

        heard = Adapter(begun, whole, ahead).follow(script)
        for cut in (singly, at_random):
            again = Adapter(begun, cut, ahead).follow(script)
            # Only how much leaves together may differ.
            self.assertEqual(evolve(again, said=()), evolve(heard, said=()))
            self.assertEqual(b"".join(again.said), b"".join(heard.said))

    @given(scripts, transactions, st.booleans())
    def test_every_recipient_gets_one_fact(self, script: list[bytes], begun: list[Transaction], ahead: bool) -> None:
        adapter = Adapter(begun, whole, ahead)
        heard = adapter.follow(script)
        started = begun[: len(begun) - len(adapter.waiting)]
        self.assertEqual([len(facts) for facts in heard.facts], [len(each.recipients) for each in started])
        self.assertIsNotNone(heard.politely)
        if heard.turned_away is not None:
            self.assertEqual(heard.facts, ())

    @given(scripts, transactions, st.booleans())
    def test_only_a_positive_reply_to_sent_content_carries_a_message(
        self, script: list[bytes], begun: list[Transaction], ahead: bool
    ) -> None:
        heard = Adapter(begun, whole, ahead).follow(script)
        carried_ones = sum(any(isinstance(fact, Carried) for fact in facts) for facts in heard.facts)
        self.assertLessEqual(carried_ones, b"".join(heard.said).count(CONTENT))
        self.assertLessEqual(carried_ones, sum(reply.startswith(b"354") for reply in script))

    @given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([*REPLIES, GO_ON + OK, OK + OK]))), transactions)
    def test_no_octets_raise(self, pieces: list[bytes], begun: list[Transaction]) -> None:
        adapter = Adapter(begun, whole)
        adapter.session.connected()
        for piece in pieces:
            adapter.session.receive_data(piece)
            adapter.turn()
        adapter.session.break_off(Breakage.TIMEOUT)
        adapter.turn()
        self.assertTrue(adapter.session.over)
