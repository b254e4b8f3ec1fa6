from __future__ import annotations

from base64 import b64encode
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scramp import ScramMechanism
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp import sasl
from relay.smtp.sasl import MECHANISMS, Ask, Challenge, Channel, Denied, Offer, Proved
from relay.smtp.sasl_client import Exchange, Login, Password, Refused, Response, Token, strongest
from relay.smtp.sasl_lines import Malformed, decode_initial
from relay.smtp.saslprep import Unpreparable, prepare
from relay.smtp.scram import ScramKeys
from tests.smtp.test_sasl import BINDINGS, USERS, Users
from tests.smtp.test_sasl_scram import CLIENT_FINAL, CLIENT_FIRST, NONCE, SALT, SERVER_FINAL, SERVER_FIRST

USER = Password("user", "pencil")
TOKEN = Token("user", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
EVERYTHING = (*MECHANISMS, "XOAUTH2", "CRAM-MD5", "NTLM")


def begun(*offered: str, login: Login = USER, nonce: str = NONCE, bindings: dict[str, bytes] | None = None) -> Exchange:
    exchange = Exchange.begin(offered, login, lambda: nonce, bindings)
    assert exchange is not None
    return exchange


def initial(command: bytes) -> bytes | None:
    """The initial response of an AUTH command."""
    match command.split(b" "):
        case [b"AUTH", _]:
            return None
        case [b"AUTH", _, argument]:
            octets = decode_initial(argument)
            assert isinstance(octets, bytes)
            return octets
        case other:
            raise AssertionError(other)


def converse(client: Exchange, server: sasl.Exchange, users: Users) -> tuple[sasl.Step | Refused, bool]:
    """How the server's exchange ended, or why the client did not go on; and whether the client believes it."""
    step = server.begin(initial(client.command()))
    while True:
        match step:
            case Ask(question):
                step = server.answer(users.answer(question))
            case Challenge(octets):
                response = client.respond(octets)
                if isinstance(response, Refused):
                    return response, client.believes
                step = server.respond(response.octets)
            case _:
                return step, client.believes


def answer_to(client: Exchange, challenge: bytes | Malformed) -> bytes:
    response = client.respond(challenge)
    assert isinstance(response, Response), response
    return response.octets


class ChoiceTests(SynchronousTestCase):
    def test_the_strongest_that_is_offered(self) -> None:
        for offered, login, chosen in (
            (EVERYTHING, USER, "SCRAM-SHA-256"),
            (("PLAIN", "LOGIN", "SCRAM-SHA-256"), USER, "SCRAM-SHA-256"),
            (("LOGIN", "plain"), USER, "PLAIN"),
            (("login",), USER, "LOGIN"),
            (("SCRAM-SHA-256-PLUS",), USER, None),
            (("CRAM-MD5", "XOAUTH2", "EXTERNAL"), USER, None),
            ((), USER, None),
            (EVERYTHING, TOKEN, "XOAUTH2"),
            (MECHANISMS, TOKEN, None),
        ):
            self.assertEqual(strongest(offered, login, {}), chosen)
        self.assertEqual(strongest(EVERYTHING, USER, BINDINGS), "SCRAM-SHA-256-PLUS")
        self.assertEqual(strongest(EVERYTHING, USER, {"tls-unique": b"U"}), "SCRAM-SHA-256")

    def test_a_password_that_scram_cannot_have_goes_by_plain(self) -> None:
        self.assertEqual(strongest(EVERYTHING, Password("user", "\U0001f511"), BINDINGS), "PLAIN")

    def test_where_nothing_is_possible_there_is_no_exchange(self) -> None:
        self.assertIs(Exchange.begin(("CRAM-MD5",), USER, str), None)

    def test_what_cannot_be_sent_is_not_a_login_and_is_not_repeated(self) -> None:
        for make in (
            lambda: Password("", "hunter2"),
            lambda: Password("user", ""),
            lambda: Password("user", "hunter2\0"),
            lambda: Password("user", "hunter2\n"),
            lambda: Password("us\0er", "hunter2"),
            lambda: Password("user", "hunter2\udc80"),
            lambda: Token("user", "hunter2\1"),
            lambda: Token("user\1", "hunter2"),
        ):
            with self.assertRaises(ValueError) as caught:
                make()
            self.assertNotIn("hunter2", str(caught.exception))


class CommandTests(SynchronousTestCase):
    def test_plain_says_it_all_at_once(self) -> None:
        exchange = begun("PLAIN")
        self.assertEqual(exchange.command(), b"AUTH PLAIN " + b64encode(b"\0user\0pencil"))
        self.assertTrue(exchange.believes)
        self.assertIsInstance(exchange.respond(b""), Refused)
        self.assertFalse(exchange.believes)

    def test_login_waits_to_be_asked_whatever_the_words(self) -> None:
        for prompts in (b"Username:", b"Password:"), (b"User Name\0", b"Password\0"), (Malformed(), b""):
            exchange = begun("LOGIN")
            self.assertEqual(exchange.command(), b"AUTH LOGIN")
            self.assertEqual(answer_to(exchange, prompts[0]), b"user")
            self.assertFalse(exchange.believes)
            self.assertEqual(answer_to(exchange, prompts[1]), b"pencil")
            self.assertTrue(exchange.believes)
            self.assertIsInstance(exchange.respond(b"Password:"), Refused)
            self.assertFalse(exchange.believes)

    def test_xoauth2_says_its_token_and_takes_the_reason_for_a_no(self) -> None:
        exchange = begun("XOAUTH2", login=TOKEN)
        said = initial(exchange.command())
        self.assertEqual(said, f"user=user\1auth=Bearer {TOKEN.token}\1\1".encode())
        self.assertTrue(exchange.believes)
        self.assertEqual(answer_to(exchange, b'{"status":"401"}'), b"")
        self.assertFalse(exchange.believes)
        self.assertIsInstance(exchange.respond(b""), Refused)

    def test_what_is_too_long_for_a_command_is_said_when_it_is_asked_for(self) -> None:
        """RFC 4954 section 4."""
        for login, mechanism in (Token("user", "t" * 500), "XOAUTH2"), (Password("user", "p" * 500), "PLAIN"):
            exchange = begun(mechanism, login=login)
            self.assertEqual(exchange.command(), b"AUTH " + mechanism.encode())
            self.assertFalse(exchange.believes)
            self.assertIn(b"tttt" if mechanism == "XOAUTH2" else b"pppp", answer_to(exchange, b""))
            self.assertTrue(exchange.believes)

    def test_a_command_has_at_most_512_octets_with_its_end(self) -> None:
        lengths = {len(begun("PLAIN", login=Password("user", "p" * n)).command()) for n in range(360, 380)}
        self.assertEqual(max(lengths), 507)  # base64 grows by four: the next would be 511, and CRLF


class ScramTests(SynchronousTestCase):
    def test_the_exchange_of_the_rfc(self) -> None:
        """RFC 7677 section 3."""
        exchange = begun("SCRAM-SHA-256")
        self.assertEqual(initial(exchange.command()), CLIENT_FIRST)
        self.assertEqual(answer_to(exchange, SERVER_FIRST), CLIENT_FINAL)
        self.assertFalse(exchange.believes)
        self.assertEqual(answer_to(exchange, SERVER_FINAL), b"")
        self.assertTrue(exchange.believes)

    def test_a_server_that_does_not_prove_itself_is_not_believed(self) -> None:
        for final in SERVER_FINAL.replace(b"v=6", b"v=7"), b"e=invalid-proof", b"", b"v=", Malformed():
            exchange = begun("SCRAM-SHA-256")
            exchange.command()
            answer_to(exchange, SERVER_FIRST)
            self.assertFalse(exchange.believes)
            self.assertIsInstance(exchange.respond(final), Refused)
            self.assertFalse(exchange.believes)

    def test_a_server_that_does_not_play_by_the_rules_gets_no_proof(self) -> None:
        for first in (
            b"",
            b"e=unknown-user",
            Malformed(),
            SERVER_FIRST.replace(b"r=rOp", b"r=xOp"),
            b"r=" + NONCE.encode() + b",s=AAAA,i=4096",
            SERVER_FIRST.replace(b"i=4096", b"i=4095"),
            SERVER_FIRST.replace(b"i=4096", b"i=200001"),
            SERVER_FIRST.replace(b"i=4096", b"i=4096,m"),
        ):
            exchange = begun("SCRAM-SHA-256")
            exchange.command()
            self.assertIsInstance(exchange.respond(first), Refused, first)
            self.assertIsInstance(exchange.respond(SERVER_FINAL), Refused)
            self.assertFalse(exchange.believes)

    def test_the_servers_words_are_not_ours(self) -> None:
        exchange = begun("SCRAM-SHA-256")
        exchange.command()
        refused = exchange.respond(b"e=you-fool")
        assert isinstance(refused, Refused)
        self.assertNotIn("fool", refused.why)

    def test_a_server_of_others_proves_us_and_itself(self) -> None:
        for mechanism, bindings, channel_binding in (
            ("SCRAM-SHA-256", None, None),
            ("SCRAM-SHA-256-PLUS", {"tls-server-end-point": b"P"}, ("tls-server-end-point", b"P")),
        ):
            m = ScramMechanism(mechanism)
            server = m.make_server(lambda user, m=m: m.make_auth_info("pencil"), channel_binding=channel_binding)
            exchange = begun(mechanism, bindings=bindings)
            server.set_client_first((initial(exchange.command()) or b"").decode())
            server.set_client_final(answer_to(exchange, server.get_server_first().encode()).decode())
            self.assertEqual(answer_to(exchange, server.get_server_final().encode()), b"")
            self.assertTrue(exchange.believes)

    def test_it_says_how_it_sees_the_channel(self) -> None:
        for offered, bindings, header in (
            (("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"), {}, b"n,,"),
            (("SCRAM-SHA-256",), BINDINGS, b"y,,"),
            (("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"), BINDINGS, b"p=tls-exporter,,"),
            (("SCRAM-SHA-256-PLUS",), {"tls-server-end-point": b"P"}, b"p=tls-server-end-point,,"),
        ):
            said = initial(begun(*offered, bindings=dict(bindings)).command())
            assert said is not None
            self.assertTrue(said.startswith(header), said)


def is_preparable(text: str, stored: bool) -> bool:
    try:
        return bool(prepare(text, stored=stored))
    except Unpreparable:
        return False


#: What people call themselves, and what they keep secret: any text that a control character is not in.
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)


class BothSidesTests(SynchronousTestCase):
    """Our client against our server."""

    def converse(
        self, mechanism: str, login: Login, users: Users, ours: dict[str, bytes], theirs: dict[str, bytes]
    ) -> tuple[sasl.Step | Refused, bool]:
        offer = Offer.of((mechanism,), Channel(theirs), b"secret")
        server = offer.exchange(mechanism, lambda: "server")
        assert server is not None
        return converse(begun(mechanism, login=login, bindings=ours), server, users)

    @settings(max_examples=60)
    @given(st.sampled_from(("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")), TEXTS, TEXTS, st.none() | TEXTS)
    def test_only_the_right_password_is_believed(
        self, mechanism: str, user: str, password: str, another: str | None
    ) -> None:
        assume(is_preparable(user, stored=False))
        if mechanism.startswith("SCRAM"):
            assume(is_preparable(password, stored=True) and is_preparable(another or password, stored=True))
            assume(another is None or prepare(another, stored=True) != prepare(password, stored=True))
        else:
            assume(another != password)
        users = Users({prepare(user): password})
        bindings = BINDINGS if mechanism.endswith("PLUS") else {}
        step, believed = self.converse(mechanism, Password(user, another or password), users, bindings, bindings)
        if another is None:
            self.assertEqual((step, believed), (Proved(prepare(user)), True))
        else:
            self.assertIsInstance(step, Denied)

    @settings(max_examples=20)
    @given(TEXTS)
    def test_an_unknown_user_is_denied_by_every_mechanism(self, user: str) -> None:
        assume(is_preparable(user, stored=False) and prepare(user) not in USERS.passwords)
        for mechanism in "PLAIN", "LOGIN", "SCRAM-SHA-256":
            step, _ = self.converse(mechanism, Password(user, "pencil"), USERS, {}, {})
            self.assertIsInstance(step, Denied)

    def test_on_another_channel_nobody_is_proved(self) -> None:
        step, believed = self.converse("SCRAM-SHA-256-PLUS", USER, USERS, BINDINGS, {"tls-exporter": b"X" * 32})
        self.assertIsInstance(step, Denied)
        self.assertFalse(believed)

    def test_a_server_that_does_not_know_us_is_found_out(self) -> None:
        """One who has our salt, but not the key that proves that it does."""

        class Impostor(Users):
            def answer(self, question: sasl.Question) -> sasl.Answer:
                keys = ScramKeys.of("pencil", SALT, 4096)
                return ScramKeys(keys.salt, keys.iterations, keys.stored_key, bytes(32))

        step, believed = self.converse("SCRAM-SHA-256", USER, Impostor({}), {}, {})
        self.assertIsInstance(step, Refused)
        self.assertFalse(believed)

    @settings(max_examples=100)
    @given(
        st.sampled_from(("PLAIN", "LOGIN", "XOAUTH2", "SCRAM-SHA-256")),
        st.lists(st.binary() | st.just(SERVER_FIRST) | st.builds(Malformed), max_size=5),
    )
    def test_nothing_that_a_server_says_raises(self, mechanism: str, challenges: list[bytes | Malformed]) -> None:
        exchange = begun(mechanism, login=TOKEN if mechanism == "XOAUTH2" else USER)
        exchange.command()
        steps = [exchange.respond(challenge) for challenge in challenges]
        if mechanism == "SCRAM-SHA-256":
            self.assertFalse(exchange.believes)
        elif len(challenges) > 2:
            self.assertIsInstance(steps[-1], Refused)


class SecrecyTests(SynchronousTestCase):
    def test_no_secret_is_in_what_is_shown(self) -> None:
        login, token = Password("user", "hunter2"), Token("user", "hunter2")
        said: list[Any] = [login, token]
        for mechanism, who in ("LOGIN", login), ("PLAIN", login), ("XOAUTH2", token), ("SCRAM-SHA-256", login):
            exchange = begun(mechanism, login=who)
            exchange.command()
            said += [exchange, *(exchange.respond(octets) for octets in (SERVER_FIRST, b"", b""))]
        self.assertTrue(any(isinstance(step, Response) and b"hunter2" in step.octets for step in said))
        for shown in (*map(repr, said), *map(str, said)):
            self.assertNotIn("hunter2", shown)
