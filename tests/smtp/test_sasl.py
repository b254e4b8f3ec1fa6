from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp import sasl, scram
from relay.smtp.sasl import (
    INVALID,
    MALFORMED,
    MECHANISMS,
    Ask,
    Challenge,
    Channel,
    CheckPassword,
    Denied,
    Exchange,
    FindScramKeys,
    Offer,
    Proved,
    Step,
)
from relay.smtp.scram import ScramKeys
from tests.smtp.test_sasl_scram import (
    CLIENT_FINAL,
    CLIENT_FIRST,
    KEYS,
    SALT,
    SERVER_FINAL,
    SERVER_FIRST,
    SERVER_NONCE,
)

PASSWORDS = {"user": "pencil", "jon": "s€cret"}
BINDINGS = {"tls-exporter": b"E" * 32, "tls-server-end-point": b"P" * 32}


@frozen
class Users:
    """Knows users, and answers what a mechanism asks."""

    passwords: Mapping[str, str]

    def answer(self, question: sasl.Question) -> sasl.Answer:
        known = self.passwords.get(question.user)
        match question:
            case CheckPassword(user, password):
                return user if password == known else None
            case FindScramKeys():
                return None if known is None else ScramKeys.of(known, SALT, 4096)


USERS = Users(PASSWORDS)


def exchange(mechanism: str, channel: Channel | None = None, allowed: tuple[str, ...] = MECHANISMS) -> Exchange:
    offer = Offer.of(allowed, channel or Channel(), b"secret")
    begun = offer.exchange(mechanism, lambda: SERVER_NONCE)
    assert begun is not None
    return begun


def outcome(exchange: Exchange, initial: bytes | None, *responses: bytes, users: Users = USERS) -> list[Step]:
    """All steps of an exchange, in which the client says these things."""
    left = list(responses)
    steps = [exchange.begin(initial)]
    while True:
        match steps[-1]:
            case Ask(question):
                steps.append(exchange.answer(users.answer(question)))
            case Challenge() if left:
                steps.append(exchange.respond(left.pop(0)))
            case _:
                return steps


class MechanismCase(SynchronousTestCase):
    def assertProved(self, steps: list[Step], user: str) -> None:
        self.assertEqual(steps[-1], Proved(user))

    def assertDenied(self, steps: list[Step], reply: object) -> None:
        last = steps[-1]
        assert isinstance(last, Denied), last
        self.assertEqual(last.reply, reply)


class PlainTests(MechanismCase):
    def test_with_an_initial_response(self) -> None:
        steps = outcome(exchange("PLAIN"), b"\0user\0pencil")
        self.assertEqual(steps, [Ask(CheckPassword("user", "pencil")), Proved("user")])

    def test_without_one_the_challenge_is_empty(self) -> None:
        steps = outcome(exchange("PLAIN"), None, b"\0user\0pencil")
        self.assertEqual(steps, [Challenge(b""), Ask(CheckPassword("user", "pencil")), Proved("user")])

    def test_who_may_only_act_as_himself_may_say_so(self) -> None:
        self.assertProved(outcome(exchange("PLAIN"), b"user\0user\0pencil"), "user")

    def test_nobody_may_act_as_somebody_else(self) -> None:
        steps = outcome(exchange("PLAIN"), b"jon\0user\0pencil")
        self.assertEqual(len(steps), 1)
        self.assertDenied(steps, INVALID)

    def test_another_password_and_an_unknown_user_are_the_same(self) -> None:
        wrong = outcome(exchange("PLAIN"), b"\0user\0crayon")
        unknown = outcome(exchange("PLAIN"), b"\0elvis\0pencil")
        self.assertEqual([type(step) for step in wrong], [type(step) for step in unknown])
        self.assertDenied(wrong, INVALID)
        self.assertDenied(unknown, INVALID)

    def test_what_is_not_three_texts_is_malformed(self) -> None:
        for message in b"", b"user", b"\0user", b"user\0pencil", b"\0user\0pen\0cil", b"\0user\0\xff", b"\xff\0user\0x":
            self.assertDenied(outcome(exchange("PLAIN"), message), MALFORMED)

    def test_an_empty_name_and_an_empty_password_are_nobodys(self) -> None:
        for message in b"\0\0pencil", b"\0user\0", b"\0\0", b"\0us\ner\0pencil":
            steps = outcome(exchange("PLAIN"), message)
            self.assertEqual(len(steps), 1)
            self.assertDenied(steps, INVALID)

    def test_the_name_is_prepared_and_the_password_is_as_it_came(self) -> None:
        steps = outcome(exchange("PLAIN"), "\u2168\0I\u00adX\0p\u00aa".encode())
        self.assertEqual(steps[0], Ask(CheckPassword("IX", "p\u00aa")))


class LoginTests(MechanismCase):
    def test_the_name_and_then_the_password(self) -> None:
        steps = outcome(exchange("LOGIN"), None, b"jon", "s€cret".encode())
        asked = Ask(CheckPassword("jon", "s€cret"))
        self.assertEqual(steps, [Challenge(b"Username:"), Challenge(b"Password:"), asked, Proved("jon")])

    def test_the_name_may_come_as_initial_response(self) -> None:
        steps = outcome(exchange("login"), b"jon", "s€cret".encode())
        self.assertEqual(steps[0], Challenge(b"Password:"))
        self.assertProved(steps, "jon")

    def test_what_is_wrong(self) -> None:
        for user, password, reply in (
            (b"jon", b"secret", INVALID),
            (b"", b"secret", INVALID),
            (b"jon", b"", INVALID),
            (b"j\0n", b"secret", MALFORMED),
            (b"jon", b"s\0cret", MALFORMED),
            (b"\xff", b"secret", MALFORMED),
            (b"jon", b"\xff", MALFORMED),
        ):
            self.assertDenied(outcome(exchange("LOGIN"), user, password), reply)


class ExternalTests(MechanismCase):
    def test_the_certificate_says_who_it_is(self) -> None:
        for initial in b"", b"jon":
            self.assertEqual(outcome(exchange("EXTERNAL", Channel(subject="jon")), initial), [Proved("jon")])
        steps = outcome(exchange("EXTERNAL", Channel(subject="jon")), None, b"")
        self.assertEqual(steps, [Challenge(b""), Proved("jon")])

    def test_it_says_nothing_for_anybody_else(self) -> None:
        for initial, reply in (b"user", INVALID), (b"jo\0n", MALFORMED), (b"\xff", MALFORMED), (b"\7", INVALID):
            self.assertDenied(outcome(exchange("EXTERNAL", Channel(subject="jon")), initial), reply)
        self.assertDenied(outcome(exchange("EXTERNAL", Channel(subject="\7")), b"\x08"), INVALID)


class ScramTests(MechanismCase):
    def test_the_exchange_of_the_rfc(self) -> None:
        """RFC 7677 section 3."""
        steps = outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL, b"")
        self.assertEqual(
            steps, [Ask(FindScramKeys("user")), Challenge(SERVER_FIRST), Challenge(SERVER_FINAL), Proved("user")]
        )

    def test_the_client_may_be_asked_for_its_first_message(self) -> None:
        steps = outcome(exchange("SCRAM-SHA-256"), None, CLIENT_FIRST, CLIENT_FINAL, b"")
        self.assertEqual(steps[0], Challenge(b""))
        self.assertProved(steps, "user")

    def test_nobody_is_proved_before_the_client_has_answered_to_our_proof(self) -> None:
        steps = outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL)
        self.assertEqual(steps[-1], Challenge(SERVER_FINAL))
        self.assertDenied(outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL, b"x"), MALFORMED)

    def test_an_unknown_user_goes_the_same_way(self) -> None:
        users = Users({"user": "crayon"})
        wrong = outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL, users=users)
        unknown = outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL, users=Users({}))
        again = outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL, users=Users({}))
        self.assertEqual([type(step) for step in wrong], [type(step) for step in unknown])
        self.assertEqual(unknown, again)
        self.assertDenied(wrong, INVALID)
        self.assertDenied(unknown, INVALID)

    def test_an_unknown_user_costs_the_same(self) -> None:
        real, calls = scram._hmac, list[int]()

        def counting(key: bytes, text: bytes) -> bytes:
            calls.append(len(text))
            return real(key, text)

        self.patch(scram, "_hmac", counting)
        costs = []
        for keys in KEYS, None:
            calls.clear()
            under_way = exchange("SCRAM-SHA-256")
            under_way.begin(CLIENT_FIRST)
            first = under_way.answer(keys)
            assert isinstance(first, Challenge)
            wrong = CLIENT_FINAL.replace(b"p=dHz", b"p=dHy")
            self.assertDenied([under_way.respond(wrong)], INVALID)
            costs.append(len(calls))
        self.assertEqual(costs[0], costs[1])
        self.assertGreater(costs[0], 0)

    def test_keys_of_nobody_prove_nothing_even_to_one_who_knows_the_secret(self) -> None:
        """Who has read our secret can compute them, but not log in as a user who does not exist."""
        self.patch(ScramKeys, "nobodys", classmethod(lambda cls, user, secret: KEYS))
        self.assertDenied(outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, CLIENT_FINAL, users=Users({})), INVALID)

    def test_nobody_may_act_as_somebody_else(self) -> None:
        self.assertIsInstance(outcome(exchange("SCRAM-SHA-256"), b"n,a=user,n=user,r=x")[-1], Challenge)
        self.assertDenied(outcome(exchange("SCRAM-SHA-256"), b"n,a=jon,n=user,r=x"), INVALID)

    def test_another_nonce_and_another_header_are_denied(self) -> None:
        for final in (
            CLIENT_FINAL.replace(b"$k0", b"$k1"),
            CLIENT_FINAL.replace(b"c=biws", b"c=eSws"),
            CLIENT_FINAL.replace(b"c=biws", b"c=bixhPXVzZXIs"),
        ):
            self.assertDenied(outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, final), INVALID)

    def test_a_proof_for_another_nonce_is_denied_even_if_it_is_right(self) -> None:
        """Or one that somebody has recorded would do for ever."""
        salted = scram.SaltedPassword.of("pencil", SALT, 4096)
        for nonce, proved in (scram.read_server_first(SERVER_FIRST).nonce, True), ("recorded", False):  # type: ignore[union-attr]
            unproved = scram.unproved(b"n,,", nonce)
            proof = salted.proof(b",".join((CLIENT_FIRST[3:], SERVER_FIRST, unproved)))
            steps = outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, scram.client_final(unproved, proof))
            self.assertEqual(isinstance(steps[-1], Challenge), proved)

    def test_what_is_no_message_is_malformed(self) -> None:
        self.assertDenied(outcome(exchange("SCRAM-SHA-256"), b"user pencil"), MALFORMED)
        self.assertDenied(outcome(exchange("SCRAM-SHA-256"), CLIENT_FIRST, b"pencil"), MALFORMED)

    def test_a_name_that_cannot_be_is_not_looked_for(self) -> None:
        for first in b"n,,n=us\x07er,r=x", "n,,n=\u00ad,r=x".encode():
            steps = outcome(exchange("SCRAM-SHA-256"), first)
            self.assertEqual(len(steps), 1)
            self.assertDenied(steps, INVALID)


def scramp(mechanism: str, password: str, binding: tuple[str, bytes] | None = None, user: str = "user") -> ScramClient:
    """A client that others have written."""
    return ScramClient([mechanism], user, password, channel_binding=binding)


def against(client: ScramClient, server: Exchange, users: Users = USERS) -> Step:
    step = server.begin(client.get_client_first().encode())
    if isinstance(step, Ask):
        step = server.answer(users.answer(step.question))
    if isinstance(step, Challenge):
        client.set_server_first(step.octets.decode())
        step = server.respond(client.get_client_final().encode())
    if isinstance(step, Challenge):
        client.set_server_final(step.octets.decode())
        step = server.respond(b"")
    return step


class BindingTests(MechanismCase):
    """A proof on one connection is worth nothing on another (RFC 5802 section 6)."""

    channel = Channel(BINDINGS)

    def test_a_client_of_others_is_proved_with_and_without_a_binding(self) -> None:
        self.assertEqual(against(scramp("SCRAM-SHA-256", "pencil"), exchange("SCRAM-SHA-256")), Proved("user"))
        bound = scramp("SCRAM-SHA-256-PLUS", "pencil", ("tls-server-end-point", b"P" * 32))
        self.assertEqual(against(bound, exchange("SCRAM-SHA-256-PLUS", self.channel)), Proved("user"))

    def test_a_client_of_others_with_another_password_is_denied(self) -> None:
        for mechanism, binding in ("SCRAM-SHA-256", None), ("SCRAM-SHA-256-PLUS", ("tls-server-end-point", b"P" * 32)):
            wrong = against(scramp(mechanism, "crayon", binding), exchange(mechanism, self.channel))
            self.assertDenied([wrong], INVALID)

    def test_whoever_sits_between_has_another_channel(self) -> None:
        elsewhere = scramp("SCRAM-SHA-256-PLUS", "pencil", ("tls-server-end-point", b"Q" * 32))
        self.assertDenied([against(elsewhere, exchange("SCRAM-SHA-256-PLUS", self.channel))], INVALID)

    def test_a_client_that_was_not_shown_what_we_offer_is_denied(self) -> None:
        could = scramp("SCRAM-SHA-256", "pencil", ("tls-server-end-point", b"P" * 32))  # says `y`
        self.assertDenied([against(could, exchange("SCRAM-SHA-256", self.channel))], INVALID)

    def test_it_is_proved_where_we_do_not_offer_it(self) -> None:
        for channel, allowed in (Channel(), MECHANISMS), (self.channel, ("SCRAM-SHA-256",)):
            could = scramp("SCRAM-SHA-256", "pencil", ("tls-server-end-point", b"P" * 32))
            self.assertEqual(against(could, exchange("SCRAM-SHA-256", channel, allowed)), Proved("user"))

    def test_the_mechanism_and_the_message_have_to_agree(self) -> None:
        for mechanism, first in (
            ("SCRAM-SHA-256-PLUS", b"n,,n=user,r=x"),
            ("SCRAM-SHA-256-PLUS", b"y,,n=user,r=x"),
            ("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=user,r=x"),
            ("SCRAM-SHA-256", b"p=tls-exporter,,n=user,r=x"),
        ):
            steps = outcome(exchange(mechanism, self.channel), first)
            self.assertEqual(len(steps), 1, first)
            self.assertDenied(steps, INVALID)

    def test_a_binding_that_this_channel_does_not_have_is_denied(self) -> None:
        older = Channel({"tls-server-end-point": b"P" * 32})
        self.assertDenied(outcome(exchange("SCRAM-SHA-256-PLUS", older), b"p=tls-exporter,,n=user,r=x"), INVALID)

    def test_only_the_kinds_that_we_know_count(self) -> None:
        odd = Offer.of(MECHANISMS, Channel({"tls-unique": b"U"}), b"secret")
        self.assertNotIn("SCRAM-SHA-256-PLUS", odd.mechanisms)


class OfferTests(SynchronousTestCase):
    def test_what_a_connection_cannot_have_is_not_offered(self) -> None:
        plain = Offer.of(MECHANISMS, Channel(), b"secret")
        self.assertEqual(plain.mechanisms, ("SCRAM-SHA-256", "PLAIN", "LOGIN"))
        all_of_them = Offer.of(MECHANISMS, Channel(BINDINGS, "jon"), b"secret")
        self.assertEqual(all_of_them.mechanisms, MECHANISMS)

    def test_what_is_not_allowed_is_not_offered(self) -> None:
        offer = Offer.of(("PLAIN", "CRAM-MD5"), Channel(BINDINGS, "jon"), b"secret")
        self.assertEqual(offer.mechanisms, ("PLAIN",))
        for name in "LOGIN", "CRAM-MD5", "EXTERNAL", "SCRAM-SHA-256", "", "plain ":
            self.assertIs(offer.exchange(name, str), None)
        for name in "PLAIN", "plain":
            self.assertIsInstance(offer.exchange(name, str), Exchange)


class ExchangeTests(SynchronousTestCase):
    def test_the_wrong_call_is_our_own_mistake(self) -> None:
        plain = exchange("PLAIN")
        self.assertRaises(RuntimeError, plain.respond, b"")
        self.assertRaises(RuntimeError, plain.answer, None)
        plain.begin(None)
        self.assertRaises(RuntimeError, plain.begin, None)
        self.assertRaises(RuntimeError, plain.answer, "user")
        plain.respond(b"\0user\0pencil")
        self.assertRaises(RuntimeError, plain.respond, b"")
        self.assertEqual(plain.answer("user"), Proved("user"))
        self.assertRaises(RuntimeError, plain.answer, "user")
        self.assertRaises(RuntimeError, plain.respond, b"")

    def test_an_answer_to_another_question_proves_nobody(self) -> None:
        plain = exchange("PLAIN")
        plain.begin(b"\0user\0pencil")
        self.assertIsInstance(plain.answer(KEYS), Denied)
        scrammed = exchange("SCRAM-SHA-256")
        scrammed.begin(CLIENT_FIRST)
        scrammed.answer("user")
        self.assertIsInstance(scrammed.respond(CLIENT_FINAL), Denied)

    @settings(max_examples=200)
    @given(
        st.sampled_from(MECHANISMS),
        st.none() | st.binary(),
        st.lists(st.binary() | st.sampled_from([CLIENT_FIRST, CLIENT_FINAL, b"", b"\0user\0pencil"]), max_size=4),
    )
    def test_nothing_that_a_client_says_raises_or_proves_it_by_chance(
        self, mechanism: str, initial: bytes | None, responses: list[bytes]
    ) -> None:
        steps = outcome(exchange(mechanism, Channel(BINDINGS, "jon")), initial, *responses)
        if isinstance(steps[-1], Proved):
            said = [initial, *responses]
            self.assertTrue(
                (b"\0user\0pencil" in said)
                or (CLIENT_FIRST in said and CLIENT_FINAL in said)
                or mechanism == "EXTERNAL"
            )


class SecrecyTests(SynchronousTestCase):
    def test_no_secret_is_in_what_is_shown(self) -> None:
        channel = Channel(BINDINGS, "jon")
        keys = ScramKeys.of("hunter2", b"the salt of hunter", 4096)
        values: list[Any] = [
            CheckPassword("user", "hunter2"),
            Ask(CheckPassword("user", "hunter2")),
            keys,
            scram.SaltedPassword.of("hunter2", keys.salt, 4096),
            scram.read_client_final(CLIENT_FINAL),
            channel,
            Offer.of(MECHANISMS, channel, b"hunter2"),
            exchange("PLAIN"),
            *outcome(exchange("PLAIN"), b"\0user\0hunter2"),
            *outcome(exchange("PLAIN"), b"\0user\0hunter2\0"),
            *outcome(exchange("LOGIN"), b"user", b"hunter2"),
            *outcome(exchange("LOGIN"), b"user", b"hunter2\xff"),
        ]
        secrets = [b"hunter2", b"EEEE", b"PPPP", keys.salt, keys.stored_key, keys.server_key, b64decode("dHzbZapWIk4j")]
        with self.assertLogs(level=logging.DEBUG) as logged:
            logging.debug("%s", values)
        for shown in (*map(repr, values), *map(str, values), *logged.output):
            for secret in secrets:
                self.assertNotIn(repr(secret)[2:-1], shown)
                self.assertNotIn(b64encode(secret).decode(), shown)
