"""The table of extensions: what is offered, and to whom."""

from __future__ import annotations

import itertools

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.commands import Grammar
from relay.smtp.events import Misspoken
from relay.smtp.extensions import ALL, OFFERED, STRANGER, Standing
from relay.smtp.help import COMMANDS, explain
from relay.smtp.profile import Profile

EVERYTHING = Profile("mx.test", extensions=ALL, arguments={"SIZE": "1000"})
WORDS = {"AUTH": "PLAIN", "FUTURERELEASE": "3600 2030-01-01T00:00:00Z"}
STANDINGS = tuple(Standing(*each) for each in itertools.product((False, True), repeat=5))
#: To whom each is offered that is not for everybody.
TO = {
    "STARTTLS": lambda standing: not standing.secured and not standing.introduced,
    "AUTH": lambda standing: standing.secured,
    "REQUIRETLS": lambda standing: standing.secured,
    "DELIVERBY": lambda standing: standing.authenticated or standing.trusted,
    "MT-PRIORITY": lambda standing: standing.authenticated or standing.trusted,
    "FUTURERELEASE": lambda standing: standing.authenticated,
    "ETRN": lambda standing: standing.trusted,
    "EXPN": lambda standing: standing.authenticated,
    "XCLIENT": lambda standing: standing.introducing,
}
#: A line that says each, by keyword: parameters of MAIL and of RCPT.
SAID = {
    "SIZE": "MAIL FROM:<a@b.test> SIZE=1",
    "8BITMIME": "MAIL FROM:<a@b.test> BODY=8BITMIME",
    "SMTPUTF8": "MAIL FROM:<a@b.test> SMTPUTF8",
    "DSN": "RCPT TO:<a@b.test> NOTIFY=NEVER",
    "REQUIRETLS": "MAIL FROM:<a@b.test> REQUIRETLS",
    "DELIVERBY": "MAIL FROM:<a@b.test> BY=1;R",
    "MT-PRIORITY": "MAIL FROM:<a@b.test> MT-PRIORITY=1",
    "FUTURERELEASE": "MAIL FROM:<a@b.test> HOLDFOR=1",
    "PRDR": "MAIL FROM:<a@b.test> PRDR",
    "AUTH": "MAIL FROM:<a@b.test> AUTH=<>",
}


def keywords(profile: Profile, standing: Standing, words: dict[str, str] | None = WORDS) -> set[str]:
    return {line.partition(" ")[0] for line in profile.keywords(standing, words)}


class OfferTests(SynchronousTestCase):
    def test_each_client_is_shown_what_is_for_it(self) -> None:
        for standing in STANDINGS:
            expected = {each.keyword for each in ALL if TO.get(each.keyword, lambda standing: True)(standing)}
            self.assertEqual(keywords(EVERYTHING, standing), expected, standing)

    def test_and_may_say_what_it_is_shown_and_nothing_else(self) -> None:
        for standing, (keyword, line) in itertools.product(STANDINGS, SAID.items()):
            question = EVERYTHING.idiom(standing).extended.read(line.encode())
            offered = keyword in keywords(EVERYTHING, standing)
            self.assertEqual(not isinstance(question, Misspoken), offered, (standing, keyword))
            if isinstance(question, Misspoken):
                self.assertEqual(question.reply.code, 555)
            # After HELO there is none of it.
            assert isinstance(EVERYTHING.idiom(standing).plain.read(line.encode()), Misspoken)

    def test_what_needs_arguments_of_the_session_is_not_offered_without(self) -> None:
        for standing in STANDINGS:
            self.assertLessEqual(keywords(EVERYTHING, standing, None), {each.keyword for each in ALL} - set(WORDS))
        self.assertIn("AUTH PLAIN", EVERYTHING.keywords(Standing(secured=True), WORDS))

    def test_nothing_is_offered_by_itself_that_has_to_be_configured(self) -> None:
        needs = {"BINARYMIME", "STARTTLS", "AUTH", "FUTURERELEASE", "EXPN", "XCLIENT"}
        self.assertEqual({each.keyword for each in ALL} - {each.keyword for each in OFFERED}, needs)

    def test_what_a_listener_does_without_is_neither_offered_nor_understood(self) -> None:
        for missing in ALL:
            profile = evolve(EVERYTHING, extensions=tuple(each for each in ALL if each is not missing))
            standing = Standing(missing.keyword != "STARTTLS", authenticated=True, trusted=True, introducing=True)
            self.assertIn(missing.keyword, keywords(EVERYTHING, standing))
            self.assertNotIn(missing.keyword, keywords(profile, standing))
            line = SAID.get(missing.keyword)
            if line is not None and missing.keyword != "8BITMIME":  # which BINARYMIME has, too
                assert isinstance(profile.idiom(standing).extended.read(line.encode()), Misspoken), line


class VerbTests(SynchronousTestCase):
    def grammar(self, *, lmtp: bool = False, extended: bool = True, without: tuple[str, ...] = ()) -> Grammar:
        extensions = tuple(each for each in ALL if each.keyword not in without)
        idiom = Profile("mx.test", extensions=extensions, lmtp=lmtp).idiom(STRANGER)
        return idiom.extended if extended else idiom.plain

    def test_a_verb_that_is_not_offered_is_known_all_the_same(self) -> None:
        grammar = self.grammar(without=("STARTTLS", "AUTH", "EXPN", "ETRN", "XCLIENT", "CHUNKING"))
        for line, reply in (
            (b"STARTTLS", answers.NOT_IMPLEMENTED),
            (b"AUTH PLAIN", answers.NO_AUTH),
            (b"EXPN x", answers.NOT_IMPLEMENTED),
            (b"ETRN x", answers.NOT_IMPLEMENTED),
            (b"XCLIENT NAME=x", answers.NOT_IMPLEMENTED),
            (b"BDAT 1", answers.NO_CHUNKING),
            (b"LHLO c", answers.NOT_IMPLEMENTED),
        ):
            self.assertEqual(grammar.read(line), Misspoken(reply))

    def test_lmtp_has_its_own_hello(self) -> None:
        grammar = self.grammar(lmtp=True)
        for line in (b"HELO c", b"EHLO c"):
            self.assertEqual(grammar.read(line), Misspoken(answers.LMTP_HERE))
        self.assertNotIn("EHLO", grammar.commands)
        self.assertIn("LHLO", grammar.commands)

    def test_help_explains_each_command_that_there_is_and_no_other(self) -> None:
        for lmtp in (False, True):
            commands = self.grammar(lmtp=lmtp).commands
            self.assertLessEqual(set(commands), set(COMMANDS))
            listed = explain("", commands).lines[1].split()
            self.assertEqual(set(listed), set(commands))
            for name in COMMANDS:
                self.assertEqual(explain(name, commands).code, 214 if name in commands else 504, name)

    def test_a_mechanism_is_a_name_and_an_initial_response_is_base64(self) -> None:
        grammar = self.grammar()
        for line in (b"AUTH", b"AUTH " + b"X" * 21, b"AUTH a/b", "AUTH Ä".encode(), b"AUTH PLAIN A", b"AUTH PLAIN A A"):
            question = grammar.read(line)
            assert isinstance(question, Misspoken), line
            self.assertEqual(question.reply.code, 501)

    def test_a_domain_for_etrn_is_one(self) -> None:
        for line in (b"ETRN", b"ETRN @", b"ETRN #x", b"ETRN a b", b"ETRN a..b", b"ETRN -a"):
            question = self.grammar().read(line)
            assert isinstance(question, Misspoken), line
            assert isinstance(question.reply, Reply)
            self.assertEqual(question.reply.code, 501, line)
