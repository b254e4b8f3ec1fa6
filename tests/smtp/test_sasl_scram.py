from __future__ import annotations

from base64 import b64decode

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp import scram
from relay.smtp.scram import Garbled, SaltedPassword, ScramKeys

# The exchange of RFC 7677 section 3: the user "user" with the password "pencil".
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
KEYS = ScramKeys.of("pencil", SALT, 4096)


class ExampleTests(SynchronousTestCase):
    """The exchange of RFC 7677, message by message."""

    def test_the_client_begins(self) -> None:
        first = scram.client_first("n", "user", NONCE)
        self.assertEqual(first.header + first.bare, CLIENT_FIRST)
        self.assertEqual(scram.read_client_first(CLIENT_FIRST), first)

    def test_the_server_answers(self) -> None:
        first = scram.server_first(NONCE + SERVER_NONCE, KEYS)
        self.assertEqual(first.octets, SERVER_FIRST)
        self.assertEqual(scram.read_server_first(SERVER_FIRST), first)

    def test_the_client_proves_that_it_knows_the_password(self) -> None:
        salted = SaltedPassword.of("pencil", SALT, 4096)
        unproved = scram.unproved(b"n,,", NONCE + SERVER_NONCE)
        exchange = b",".join((CLIENT_FIRST[3:], SERVER_FIRST, unproved))
        self.assertEqual(scram.client_final(unproved, salted.proof(exchange)), CLIENT_FINAL)

    def test_the_server_believes_the_proof_and_proves_that_it_knows_the_user(self) -> None:
        final = scram.read_client_final(CLIENT_FINAL)
        assert isinstance(final, scram.ClientFinal)
        self.assertEqual((final.binding, final.nonce), (b"n,,", NONCE + SERVER_NONCE))
        exchange = b",".join((CLIENT_FIRST[3:], SERVER_FIRST, final.unproved))
        self.assertTrue(KEYS.proved_by(final.proof, exchange))
        self.assertFalse(KEYS.proved_by(final.proof, exchange + b" "))
        self.assertEqual(scram.server_final(KEYS.signature(exchange)), SERVER_FINAL)
        self.assertEqual(scram.read_server_final(SERVER_FINAL), KEYS.signature(exchange))


class KeyTests(SynchronousTestCase):
    def test_keys_of_nobody_are_always_the_same_and_for_each_name_others(self) -> None:
        elvis = ScramKeys.nobodys("elvis", b"secret")
        self.assertEqual(elvis, ScramKeys.nobodys("elvis", b"secret"))
        for other in ScramKeys.nobodys("elvi", b"secret"), ScramKeys.nobodys("elvis", b"another secret"):
            self.assertNotEqual(elvis.salt, other.salt)
            self.assertNotEqual(elvis.stored_key, other.stored_key)

    def test_keys_of_nobody_look_like_those_that_we_make(self) -> None:
        made = ScramKeys.of("password", bytes(scram.SALT_OCTETS))
        nobodys = ScramKeys.nobodys("elvis", b"secret")
        self.assertEqual((len(nobodys.salt), nobodys.iterations), (len(made.salt), made.iterations))

    def test_keys_that_cannot_be_are_not_made(self) -> None:
        for wrong in {"salt": b""}, {"iterations": 0}, {"stored_key": b"short"}, {"server_key": bytes(33)}:
            with self.assertRaises(ValueError):
                evolve(KEYS, **wrong)


class ReadingTests(SynchronousTestCase):
    def test_a_name_may_have_commas_and_equals_signs(self) -> None:
        first = scram.client_first("n", "a=b,c=2C", "x")
        self.assertEqual(first.bare, b"n=a=3Db=2Cc=3D2C,r=x")
        self.assertEqual(scram.read_client_first(first.header + first.bare), first)

    def test_who_names_whom_it_wants_to_act_as_is_understood(self) -> None:
        first = scram.read_client_first(b"p=tls-exporter,a=a=2Cb,n=user,r=x,e=ignored")
        assert isinstance(first, scram.ClientFirst)
        self.assertEqual((first.flag, first.binding, first.authzid), ("p", "tls-exporter", "a,b"))
        self.assertEqual((first.header, first.bare), (b"p=tls-exporter,a=a=2Cb,", b"n=user,r=x,e=ignored"))

    def test_first_messages_of_a_client_that_are_none(self) -> None:
        for message in (
            b"",
            b"n",
            b"n,",
            b"n,,",
            b"n,,n=user",
            b"n,,n=,r=x",
            b"n,,n=user,r=",
            b"n,,n=user,r=x y",
            b"n,,n=user,r=\xc3\xa4",
            b"n,,r=x,n=user",
            b"n,,m=must,n=user,r=x",
            b"n,,n=us=er,r=x",
            b"n,,n=3=2CD=,r=x",
            b"n,,n==3=2CD,r=x",
            b"n,,n=us\0er,r=x",
            b"n,,n=us\xe4er,r=x",
            b"n,,n=user,r=x,",
            b"n,,n=user,r=x,ext",
            b"n,,n=user,r=x,1=ext",
            b"n,user,n=user,r=x",
            b"n,a=,n=user,r=x",
            b"n,a==,n=user,r=x",
            b"p=,,n=user,r=x",
            b"N,,n=user,r=x",
            b"z,,n=user,r=x",
        ):
            self.assertIsInstance(scram.read_client_first(message), Garbled, message)

    def test_last_messages_of_a_client_that_are_none(self) -> None:
        proof = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        self.assertIsInstance(scram.read_client_final(b"c=biws,r=x,e=ignored,p=" + proof), scram.ClientFinal)
        for message in (
            b"",
            b"p=" + proof,
            b",p=" + proof,
            b"c=biws,p=" + proof,
            b"r=x,c=biws,p=" + proof,
            b"c=biw,r=x,p=" + proof,
            b"c=,r=x,p=" + proof,
            b"c=biws,r=x",
            b"c=biws,r=x,p=",
            b"c=biws,r=x,p=AAAA",
            b"c=biws,r=x,p=" + proof[:-1],
            b"c=biws,r=x,p=" + proof + b",e=more",
            b"c=biws,r=x\0,p=" + proof,
            b"c=biws,r=\xff,p=" + proof,
        ):
            self.assertIsInstance(scram.read_client_final(message), Garbled, message)

    def test_messages_of_a_server_that_are_none(self) -> None:
        for message in (
            b"",
            b"e=unknown-user",
            b"r=x,s=AAAA",
            b"r=x,i=4096,s=AAAA",
            b"r=x,s=,i=4096",
            b"r=x,s=AAA,i=4096",
            b"r=x,s=AAAA,i=",
            b"r=x,s=AAAA,i=0",
            b"r=x,s=AAAA,i=04096",
            b"r=x,s=AAAA,i=-1",
            b"r=x,s=AAAA,i=4096\n",
            b"r=x,s=AAAA,i=\xd9\xa4",
            b"r=x,s=AAAA,i=" + b"9" * 11,
            b"m=x,r=x,s=AAAA,i=4096",
        ):
            self.assertIsInstance(scram.read_server_first(message), Garbled, message)
        for message in b"", b"e=other-error", b"v=", b"v=AAA", b"x=AAAA":
            self.assertIsInstance(scram.read_server_final(message), Garbled, message)

    @given(st.binary() | st.text("npyrcsivea=,A1\0", max_size=30).map(str.encode))
    def test_no_message_raises(self, message: bytes) -> None:
        scram.read_client_first(message)
        scram.read_client_final(message)
        scram.read_server_first(message)
        scram.read_server_final(message)
