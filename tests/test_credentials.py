from __future__ import annotations

import os
import queue
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IAnonymous, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.interfaces import CredentialsUnavailable, ICredentials
from relay.net import verifying
from relay.net.clock import ReactorClock
from relay.net.credentials import CheckerCredentials
from relay.net.password_file import PasswordFile
from relay.net.passwords import (
    DEFAULT_COST,
    HASHER,
    LONGEST_PASSWORD,
    Passwords,
    Record,
    Unsuitable,
    nobodys_hash,
    parse,
    prepared_user,
    rewritten,
)
from relay.net.verifying import IVerifier, VerifyAtOnce, VerifyingThreads
from relay.smtp.scram import ScramKeys

#: As cheap as argon2 gets.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SECRET = b"s" * 32


def salt(octets: int) -> bytes:
    return b"salt" * (octets // 4)


def record(user: str, password: str) -> Record:
    return Record.of(user, password, salt, CHEAP)


def text_of(*records: Record) -> str:
    text = ""
    for one in records:
        text = rewritten(text, one.user, one, SECRET)
    return text


@implementer(IVerifier)
class CountingVerifier:
    """Verifies where it stands, and remembers which hashes it was handed."""

    def __init__(self) -> None:
        self.hashes: list[str] = []

    async def verify(self, argon2: str, password: str) -> bool:
        self.hashes.append(argon2)
        return await VerifyAtOnce().verify(argon2, password)


class LineTests(SynchronousTestCase):
    """What stands in the file."""

    def test_what_is_written_is_read(self) -> None:
        jon = record("jon", "s€cret")
        found = parse(text_of(jon, record("ann@example.org", "pencil")))
        self.assertEqual(set(found.records), {"jon", "ann@example.org"})
        self.assertEqual(found.records["jon"], jon)
        self.assertEqual(found.secret, SECRET)

    def test_a_hash_and_keys_are_of_the_password_as_it_is_prepared(self) -> None:
        jon = record("jon", "I\u00adX")
        assert jon.argon2 is not None
        self.assertTrue(verifying.verified(jon.argon2, "IX"))
        self.assertEqual(jon.scram, ScramKeys.of("IX", salt(16)))

    def test_the_form_of_a_line_stays(self) -> None:
        """Files that exist have to be read by every later version."""
        line = (
            "jon:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$o3f4vDuOcBGgqTGHjTEgYWTYGGHFOZpo7yY9BNbnyFE:"
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
            ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        )
        jon = parse(line).records["jon"]
        self.assertEqual(jon.line(), line)
        self.assertEqual(jon.cost, "$argon2id$v=19$m=8,t=1,p=1$")
        self.assertEqual(jon.scram, ScramKeys.of("pencil", jon.scram.salt if jon.scram else b"", 4096))

    def test_either_may_be_missing(self) -> None:
        jon = record("jon", "pencil")
        for hash_, keys in (jon.argon2, None), (None, jon.scram), (None, None):
            one = Record("jon", hash_, keys)
            self.assertEqual(parse(one.line()).records["jon"], one)

    def test_comments_and_empty_lines_mean_nothing(self) -> None:
        self.assertEqual(parse("# jon::\n\n   \n"), Passwords({}, None))
        self.assertEqual(parse(""), Passwords({}, None))

    def test_a_line_that_makes_no_sense_is_named_and_not_repeated(self) -> None:
        jon = record("jon", "pencil").line()
        for wrong in (
            "hunter2",
            "jon:hunter2",
            "jon:hunter2:",
            "jon:$6$hunter2$hunter2:",
            "jon:{PLAIN}hunter2:",
            "jon::hunter2",
            "jon::SCRAM-SHA-1$4096:aHVudGVyMg==$aHVudGVyMg==:aHVudGVyMg==",
            "jon::SCRAM-SHA-256$4096:aHVudGVyMg==$aHVudGVyMg==:aHVudGVyMg==",
            "jon::SCRAM-SHA-256$0:aHVudGVyMg==$aHVudGVyMg==:aHVudGVyMg==",
            " jon::",
            "j\u00adon::",
            "j\x07on::",
            ":secret:aHVudGVyMg==",
            ":secret:hunter2",
            "::",
            jon + " ",
            jon + "\r",
        ):
            with self.assertRaises(ValueError) as caught:
                parse(f"# users\n{wrong}\n")
            self.assertTrue(str(caught.exception).startswith("line 2: "), caught.exception)
            self.assertNotIn("hunter2", str(caught.exception))
            self.assertIs(caught.exception.__cause__, None)

    def test_a_user_has_one_line(self) -> None:
        jon = record("jon", "pencil").line()
        self.assertRaises(ValueError, parse, f"{jon}\n{jon}\n")

    def test_other_lines_stay_as_they_are(self) -> None:
        jon, ann = record("jon", "pencil"), record("ann", "pencil")
        before = f"# users\n\n{ann.line()}\njon:broken\njonathan::\n# the end"
        after = rewritten(before, "jon", jon, SECRET).split("\n")
        self.assertEqual(after[1:], ["# users", "", ann.line(), jon.line(), "jonathan::", "# the end", ""])
        self.assertTrue(after[0].startswith(":secret:"))
        without = rewritten("\n".join(after), "jon", None, b"another")
        self.assertEqual(without, "\n".join([after[0], "# users", "", ann.line(), "jonathan::", "# the end", ""]))
        self.assertEqual(parse(without).secret, SECRET)

    def test_who_cannot_be_a_user(self) -> None:
        for wrong in (
            "",
            ":",
            "jon:x",
            "jon\n",
            "jon\0",
            "j\x7fon",
            "#jon",
            " jon",
            "jon ",
            "\u00ad",
            "x" * 256,
            "\udc80",
        ):
            self.assertRaises(Unsuitable, prepared_user, wrong)
        self.assertEqual(prepared_user("\u2168"), "IX")
        self.assertEqual(prepared_user("Jon Frog"), "Jon Frog")

    def test_what_cannot_be_a_password(self) -> None:
        for wrong in "", "hunter2\n", "hunter2\0", "\U0001f511hunter2", "\u00ad", "hunter2" * 200, "hunter2\udc80":
            with self.assertRaises(Unsuitable) as caught:
                record("jon", wrong)
            self.assertNotIn("hunter2", str(caught.exception))
        self.assertEqual(len(record("jon", "p" * LONGEST_PASSWORD).user), 3)

    def test_the_hash_of_nobody_costs_what_a_hash_costs_and_is_no_passwords(self) -> None:
        nobodys = nobodys_hash(record("jon", "pencil").cost, os.urandom)
        for password in "", "pencil":
            self.assertFalse(CHEAP_verified(nobodys, password))
        self.assertEqual(parse(f"jon:{nobodys}:").records["jon"].cost, "$argon2id$v=19$m=8,t=1,p=1$")
        self.assertEqual(nobodys_hash(DEFAULT_COST, os.urandom).rsplit("$", 2)[0] + "$", DEFAULT_COST)
        self.assertIn(f"m={HASHER.memory_cost},", DEFAULT_COST)

    def test_no_secret_is_in_what_is_shown(self) -> None:
        jon = record("jon", "hunter2")
        assert jon.argon2 is not None
        for shown in repr(jon), str(jon), repr(parse(text_of(jon))):
            for secret in "hunter2", jon.argon2[-20:], "SCRAM", repr(SECRET)[2:-1]:
                self.assertNotIn(secret, shown)

    @settings(max_examples=200)
    @given(st.text() | st.text("jon:$argon2,=\n#secret", max_size=40))
    def test_a_text_is_read_or_it_is_a_value_error(self, text: str) -> None:
        try:
            parse(text)
        except ValueError:
            return


def CHEAP_verified(argon2: str, password: str) -> bool:
    """It has to compute to the end: a hash that cannot be read would cost nothing."""
    from argon2.exceptions import VerifyMismatchError

    try:
        return CHEAP.verify(argon2, password)
    except VerifyMismatchError:
        return False


class FolderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "users"
        self.clock = Clock()
        self.verifier = CountingVerifier()

    def write(self, text: str, mode: int = 0o600) -> None:
        self.path.write_text(text)
        self.path.chmod(mode)
        # Each time a later one, whatever the clock of the file system.
        stamp = 1_700_000_000 + int(self.clock.seconds() * 1000)
        os.utime(self.path, (stamp, stamp))

    def users(self, *records: Record) -> PasswordFile:
        self.write(text_of(*records))
        return PasswordFile(self.path, self.verifier, ReactorClock(self.clock, lambda: 0.0))

    def check(self, users: Any, user: str, password: str) -> str | None:
        return self.successResultOf(Deferred.fromCoroutine(users.check_password(user, password)))  # type: ignore[no-any-return]

    def keys(self, users: Any, user: str) -> ScramKeys | None:
        return self.successResultOf(Deferred.fromCoroutine(users.scram_keys(user)))  # type: ignore[no-any-return]

    def assertUnavailable(self, users: Any, saying: str) -> None:
        for asked in users.check_password("jon", "pencil"), users.scram_keys("jon"):
            failure = self.failureResultOf(Deferred.fromCoroutine(asked), CredentialsUnavailable)
            self.assertIn(saying, failure.getErrorMessage())


class PasswordFileTests(FolderCase):
    def test_it_keeps_the_contract(self) -> None:
        users = self.users()
        self.assertTrue(verifyObject(ICredentials, users))
        self.assertTrue(users.scram)

    def test_the_password_of_a_user(self) -> None:
        users = self.users(record("jon", "s€cret"), record("ann", "pencil"))
        self.assertEqual(self.check(users, "jon", "s€cret"), "jon")
        for user, password in ("jon", "pencil"), ("jon", ""), ("elvis", "s€cret"), ("elvis", ""), ("", ""):
            self.assertIs(self.check(users, user, password), None)

    def test_a_password_is_prepared_before_it_is_compared(self) -> None:
        users = self.users(record("jon", "IX"))
        self.assertEqual(self.check(users, "jon", "\u2168"), "jon")

    def test_keys_of_a_user(self) -> None:
        users = self.users(record("jon", "pencil"), Record("ann", record("ann", "pencil").argon2, None))
        self.assertEqual(self.keys(users, "jon"), ScramKeys.of("pencil", salt(16)))
        self.assertIs(self.keys(users, "ann"), None)
        self.assertIs(self.keys(users, "elvis"), None)

    def test_whoever_is_wrong_costs_one_hash(self) -> None:
        users = self.users(record("jon", "pencil"), Record("ann", None, record("ann", "pencil").scram))
        for user, password in (
            ("jon", "pencil"),
            ("jon", "crayon"),
            ("elvis", "crayon"),
            ("ann", "pencil"),
            ("jon", "\U0001f511"),
            ("elvis", "p" * 5000),
        ):
            self.verifier.hashes.clear()
            self.check(users, user, password)
            self.assertEqual(len(self.verifier.hashes), 1, user)
            self.assertTrue(self.verifier.hashes[0].startswith("$argon2id$v=19$m=8,t=1,p=1$"))

    def test_who_has_no_hash_cannot_guess_that_of_nobody(self) -> None:
        users = self.users(Record("ann", None, None))

        class Gullible(CountingVerifier):
            async def verify(self, argon2: str, password: str) -> bool:
                return True

        users._verifier = Gullible()
        self.assertIs(self.check(users, "ann", "pencil"), None)
        self.assertIs(self.check(users, "elvis", "pencil"), None)

    def test_the_secret_is_the_files(self) -> None:
        self.assertEqual(self.users(record("jon", "pencil")).secret, SECRET)
        self.write("")
        users = PasswordFile(self.path, self.verifier, ReactorClock(self.clock, lambda: 0.0))
        self.assertEqual(len(users.secret), 32)
        self.assertEqual(users.secret, users.secret)

    def test_where_it_has_none_several_processes_say_the_same_of_who_does_not_exist(self) -> None:
        self.write("")
        clock = ReactorClock(self.clock, lambda: 0.0)
        one, other = (PasswordFile(self.path, self.verifier, clock, secret=b"of all of them") for _ in range(2))
        self.assertEqual(one.secret, other.secret)
        self.write(f":secret:{b64encode(SECRET).decode()}\n")
        self.clock.advance(1)
        self.check(one, "ann", "pencil")
        self.assertEqual(one.secret, SECRET)

    def test_a_change_is_taken_up_within_a_second(self) -> None:
        users = self.users(record("jon", "pencil"))
        self.clock.advance(0.5)
        self.write(text_of(record("jon", "crayon"), record("ann", "pencil")))
        self.assertEqual(self.check(users, "jon", "pencil"), "jon")
        self.clock.advance(0.5)
        self.assertIs(self.check(users, "jon", "pencil"), None)
        self.assertEqual(self.check(users, "jon", "crayon"), "jon")
        self.assertEqual(self.check(users, "ann", "pencil"), "ann")

    def test_a_file_that_others_may_read_is_refused(self) -> None:
        users = self.users(record("jon", "pencil"))
        for mode in 0o604, 0o644, 0o602, 0o620, 0o601:
            self.path.chmod(mode)
            self.clock.advance(1)
            self.assertUnavailable(users, "others may read or write it")
            with self.assertRaises(ValueError):
                PasswordFile(self.path, self.verifier, ReactorClock(self.clock, lambda: 0.0))
        for mode in 0o600, 0o640, 0o400, 0o440:
            self.path.chmod(mode)
            self.clock.advance(1)
            self.assertEqual(self.check(users, "jon", "pencil"), "jon")

    def test_a_file_that_is_gone_or_makes_no_sense_lets_nobody_in(self) -> None:
        users = self.users(record("jon", "pencil"))
        self.clock.advance(1)
        self.write("jon:hunter2:\n")
        self.assertUnavailable(users, f"{self.path}: line 1: not an argon2 hash")
        self.clock.advance(1)
        self.assertUnavailable(users, "line 1")
        self.path.unlink()
        self.clock.advance(1)
        self.assertUnavailable(users, "No such file")
        self.path.write_bytes(b"hunter2\xff")
        self.path.chmod(0o600)
        self.clock.advance(1)
        self.assertUnavailable(users, "not UTF-8")
        self.path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
        self.clock.advance(1)
        self.assertUnavailable(users, "larger than 4 MiB")
        self.write(text_of(record("jon", "pencil")))
        self.clock.advance(1)
        self.assertEqual(self.check(users, "jon", "pencil"), "jon")

    def test_it_does_not_start_without_its_file(self) -> None:
        clock = ReactorClock(self.clock, lambda: 0.0)
        self.assertRaises(OSError, PasswordFile, self.path, self.verifier, clock)
        self.write("jon")
        self.assertRaises(ValueError, PasswordFile, self.path, self.verifier, clock)
        self.assertRaises(OSError, PasswordFile, self.folder, self.verifier, clock)
        pipe = self.folder / "pipe"
        os.mkfifo(pipe, 0o600)  # nobody waits for its other end
        self.assertRaises(ValueError, PasswordFile, pipe, self.verifier, clock)

    def test_words_for_the_operator_have_no_secret_in_them(self) -> None:
        users = self.users(record("jon", "pencil"))
        self.clock.advance(1)
        self.write("jon:$6$hunter2$hunter2:\n")
        failure = self.failureResultOf(Deferred.fromCoroutine(users.check_password("jon", "hunter3")))
        self.assertNotIn("hunter", failure.getTraceback() + repr(users))

    def test_verifying_asks_for_no_more_than_the_contract(self) -> None:
        self.assertTrue(verifyObject(IVerifier, VerifyAtOnce()))
        self.assertTrue(verifyObject(IVerifier, VerifyingThreads(None)))


class ThreadReactor:
    """As much of a reactor as threads need, turned by hand."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._calls.put((call, arguments))

    def turn(self) -> None:
        call, arguments = self._calls.get(timeout=30)
        call(*arguments)


class VerifyingThreadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ThreadReactor()
        self.threads = VerifyingThreads(self.reactor, threads=1, waiting=1)
        self.hash = CHEAP.hash("pencil")

    def verify(self, password: str) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.threads.verify(self.hash, password))

    def test_a_password_is_verified_in_a_thread(self) -> None:
        self.threads.start()
        self.addCleanup(self.threads.stop)
        for password, right in ("pencil", True), ("crayon", False):
            verified = self.verify(password)
            self.assertNoResult(verified)
            self.reactor.turn()
            self.assertEqual(self.successResultOf(verified), right)

    def test_where_too_many_wait_nobody_else_may(self) -> None:
        waiting = [self.verify("pencil"), self.verify("pencil")]
        self.failureResultOf(self.verify("pencil"), CredentialsUnavailable)
        self.threads.start()
        self.addCleanup(self.threads.stop)
        self.reactor.turn()
        self.assertTrue(self.successResultOf(waiting[0]))
        waiting.append(self.verify("pencil"))
        self.reactor.turn()
        self.reactor.turn()
        self.assertEqual([self.successResultOf(one) for one in waiting[1:]], [True, True])

    def test_who_has_hung_up_costs_nothing(self) -> None:
        verified: list[str] = []
        self.patch(verifying, "verified", lambda argon2, password: verified.append(password) or True)
        gone, here = self.verify("gone"), self.verify("here")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.threads.start()
        self.addCleanup(self.threads.stop)
        self.reactor.turn()
        self.reactor.turn()
        self.assertTrue(self.successResultOf(here))
        self.assertEqual(verified, ["here"])

    def test_when_it_stops_what_waits_is_forgotten(self) -> None:
        verified: list[str] = []
        self.patch(verifying, "verified", lambda argon2, password: verified.append(password) or True)
        waiting = self.verify("pencil")
        self.threads.start()
        self.threads._stopping = True
        self.threads.stop()
        self.reactor.turn()
        self.failureResultOf(waiting, CredentialsUnavailable)
        self.failureResultOf(self.verify("pencil"), CredentialsUnavailable)
        self.assertIn(verified, ([], ["pencil"]))

    def test_a_hash_that_cannot_be_read_is_no_passwords(self) -> None:
        self.assertFalse(verifying.verified("hunter2", "hunter2"))
        self.assertFalse(verifying.verified("$argon2id$v=19$m=8,t=1,p=1$AA$AA", "hunter2"))


@implementer(ICredentialsChecker)
class SlowChecker:
    """A plugin's checker, which takes its time."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def requestAvatarId(self, credentials: UsernamePassword) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


class CheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def wrapped(self, checker: Any) -> CheckerCredentials:
        return CheckerCredentials(checker, ReactorClock(self.clock, lambda: 0.0))

    def check(self, users: CheckerCredentials, user: str = "jon", password: str = "pencil") -> Deferred[str | None]:
        return Deferred.fromCoroutine(users.check_password(user, password))

    def test_any_checker_of_twisted_cred_knows_users(self) -> None:
        users = self.wrapped(InMemoryUsernamePasswordDatabaseDontUse(jon="s€cret".encode()))
        self.assertTrue(verifyObject(ICredentials, users))
        self.assertEqual(self.successResultOf(self.check(users, "jon", "s€cret")), "jon")
        self.assertIs(self.successResultOf(self.check(users, "jon", "pencil")), None)
        self.assertIs(self.successResultOf(self.check(users, "elvis", "pencil")), None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_checker_may_be_a_coroutine(self) -> None:
        """As docs/authentication.md has it."""

        class Staff(SlowChecker):
            async def requestAvatarId(self, credentials: UsernamePassword) -> bytes:  # type: ignore[override]
                await SlowChecker.requestAvatarId(self, credentials)
                if credentials.password != b"pencil":
                    raise UnauthorizedLogin
                return credentials.username

        staff = Staff()
        users = self.wrapped(staff)
        for password, user in ("pencil", "jon"), ("crayon", None):
            checked = self.check(users, "jon", password)
            staff.asked[-1].callback(None)
            self.assertEqual(self.successResultOf(checked), user)

    def test_it_has_no_keys(self) -> None:
        users = self.wrapped(SlowChecker())
        self.assertFalse(users.scram)
        self.assertIs(self.successResultOf(Deferred.fromCoroutine(users.scram_keys("jon"))), None)
        self.assertEqual(len(users.secret), 32)

    def test_what_a_checker_may_say(self) -> None:
        checker = SlowChecker()
        users = self.wrapped(checker)
        for avatar, user in (b"jon", "jon"), ("jon", "jon"), (ANONYMOUS, None), (b"", None), ("", None), (None, None):
            checked = self.check(users)
            checker.asked[-1].callback(avatar)
            self.assertEqual(self.successResultOf(checked), user)
        checked = self.check(users)
        checker.asked[-1].errback(UnauthorizedLogin("no"))
        self.assertIs(self.successResultOf(checked), None)

    def test_a_mistake_of_the_checker_is_not_a_wrong_password(self) -> None:
        checker = SlowChecker()
        checked = self.check(self.wrapped(checker))
        checker.asked[-1].errback(ZeroDivisionError())
        self.failureResultOf(checked, ZeroDivisionError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_checker_that_does_not_answer_is_not_waited_for(self) -> None:
        checker = SlowChecker()
        checked = self.check(self.wrapped(checker))
        self.clock.advance(9.9)
        self.assertNoResult(checked)
        self.clock.advance(0.1)
        self.failureResultOf(checked, CredentialsUnavailable)

    def test_who_hangs_up_cancels_the_question(self) -> None:
        checker = SlowChecker()
        checked = self.check(self.wrapped(checker))
        checked.cancel()
        self.failureResultOf(checked, CancelledError)
        self.assertTrue(checker.asked[0].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_checker_of_something_else_is_refused(self) -> None:
        checker = SlowChecker()
        self.patch(checker, "credentialInterfaces", (IAnonymous,))
        self.assertRaises(ValueError, self.wrapped, checker)
