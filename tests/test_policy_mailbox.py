from __future__ import annotations

import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.routing import ABSTAIN, Deliver, Inquiry, Reject, RoutingVerdict
from relay.policy.mailbox import Mailbox, MailboxOptions
from relay.policy.users import Anyone, OfTheSystem, table_in
from relay.testing.policy import FakeWorld, PolicyContract, inquiry, world

LISTED: dict[str, Any] = {"domains": ["example.org", "localhost"], "users": ["jon", "Ann.Lee"], "directory": "/mail"}


def mailbox(**options: Any) -> Mailbox:
    return Mailbox(MailboxOptions.model_validate({**LISTED, **options}), world())


def folder(verdict: RoutingVerdict) -> str | None:
    """Where a copy goes; `None` if the mailbox is unknown."""
    if isinstance(verdict, Deliver):
        return verdict.parameters.get("folder") or verdict.parameters["file"]
    assert isinstance(verdict, Reject), verdict
    assert (verdict.reply.code, verdict.reply.status) == (550, "5.1.1")
    return None


class ContractTests(PolicyContract, SynchronousTestCase):
    policy = Mailbox
    options = LISTED


class MailboxTests(SynchronousTestCase):
    def assert_folders(self, policy: Mailbox, **folders: str | None) -> None:
        for local, path in folders.items():
            self.assert_folder(policy, local, path)

    def assert_folder(self, policy: Mailbox, local: str, path: str | None) -> None:
        for _ in range(2):  # the second time the verdict is ready
            question = inquiry("jon@example.org")
            address = Address(local, "example.org")
            verdict = policy.route(Inquiry(address, address, question.reverse_path, question.client))
            self.assertEqual(folder(verdict), path, local)

    def test_a_mailbox_that_exists_gets_its_copy_and_the_verdict_says_so(self) -> None:
        self.assertEqual(
            mailbox().route(inquiry("jon@example.org")),
            Deliver("maildir", {"folder": "/mail/jon"}, because="mailbox jon"),
        )

    def test_mbox_is_another_agent_with_a_file(self) -> None:
        self.assertEqual(
            mailbox(format="mbox").route(inquiry("jon@localhost")),
            Deliver("mbox", {"file": "/mail/jon", "create": "yes"}, because="mailbox jon"),
        )

    def test_files_of_the_system_are_for_the_system_to_make(self) -> None:
        for directory in "/var/mail", "/var/spool/mail/":
            verdict = mailbox(format="mbox", directory=directory).route(inquiry("jon@localhost"))
            self.assertNotIn("create", verdict.parameters)

    def test_a_mailbox_that_does_not_exist_is_an_unknown_user(self) -> None:
        verdict = mailbox().route(inquiry("elvis@localhost"))
        assert isinstance(verdict, Reject)
        self.assertEqual(verdict.reply.wire, b"550 5.1.1 <elvis@localhost>: user unknown\r\n")

    def test_who_is_told_of_an_unknown_member_hears_the_name_that_they_named(self) -> None:
        verdict = mailbox().route(inquiry("elvis@localhost", original="team@localhost"))
        assert isinstance(verdict, Reject)
        self.assertEqual(str(verdict.reply), "550 5.1.1 <team@localhost>: user unknown")

    def test_about_other_domains_it_has_no_opinion(self) -> None:
        for recipient in "jon@example.com", "jon@sub.example.org", "postmaster@example.com", "jon@[127.0.0.1]":
            self.assertIs(mailbox().route(inquiry(recipient)), ABSTAIN)

    def test_letter_case_means_nothing_and_the_folder_is_written_as_in_the_table(self) -> None:
        self.assert_folder(mailbox(), "JoN", "/mail/jon")
        self.assert_folder(mailbox(), "ann.LEE", "/mail/Ann.Lee")

    def test_a_detail_belongs_to_the_mailbox_before_it(self) -> None:
        self.assert_folder(mailbox(), "jon+lists+more", "/mail/jon")
        self.assert_folder(mailbox(), "jon-lists", None)
        self.assert_folder(mailbox(), "+jon", None)
        self.assert_folder(mailbox(detail="-"), "jon-lists", "/mail/jon")
        self.assert_folder(mailbox(detail="-"), "jon+lists", None)
        self.assert_folder(mailbox(detail=""), "jon+lists", None)

    def test_a_mailbox_with_the_whole_name_comes_before_the_detail(self) -> None:
        self.assert_folder(mailbox(users=["jon", "jon+lists"]), "jon+lists", "/mail/jon+lists")

    def test_mail_for_postmaster_is_always_accepted(self) -> None:
        for local in "postmaster", "PostMaster", "postmaster+x":
            self.assert_folder(mailbox(), local, "/mail/postmaster")
            self.assert_folder(mailbox(users=[]), local, "/mail/postmaster")
            self.assert_folder(mailbox(postmaster="jon"), local, "/mail/jon")

    def test_a_postmaster_who_is_nobody_is_a_mistake(self) -> None:
        self.assertIn("there is no mailbox", str(self.assertRaises(ValidationError, mailbox, postmaster="elvis")))

    def test_it_may_leave_unknown_users_to_the_next_policy(self) -> None:
        self.assertIs(mailbox(unknown="abstain").route(inquiry("elvis@localhost")), ABSTAIN)
        self.assert_folder(mailbox(unknown="abstain"), "jon", "/mail/jon")

    def test_names_of_other_scripts_are_folded_too(self) -> None:
        policy = mailbox(users=["jörg"])
        self.assert_folder(policy, "JÖRG", "/mail/jörg")
        self.assert_folder(policy, "jo\N{COMBINING DIAERESIS}rg", "/mail/jörg")

    def test_any_plain_name_has_a_mailbox_where_users_is_any(self) -> None:
        policy = mailbox(users="any")
        self.assert_folder(policy, "Elvis.the_King-1", "/mail/elvis.the_king-1")
        self.assert_folder(policy, "elvis+graceland", "/mail/elvis")
        for local in (
            ".hidden",
            "..",
            "a/b",
            "../etc",
            "a b",
            "jörg",
            "a\\b",
            "a'b",
            "jon%elsewhere",
            "host!jon",
            "jon\n",
        ):
            self.assert_folder(policy, local, None)

    def test_no_mailbox_is_the_lock_of_another(self) -> None:
        for policy in mailbox(users="any", format="mbox"), mailbox(users=["jon", "jon.lock"], format="mbox"):
            self.assert_folders(policy, **{"jon.lock": None, "JON.LOCK": None, "jon": "/mail/jon"})
        self.assert_folder(mailbox(users="any"), "jon.lock", "/mail/jon.lock")

    def test_the_same_name_twice_is_one_mailbox_and_in_other_letter_case_a_mistake(self) -> None:
        self.assert_folder(mailbox(users=["jon", "jon"]), "jon", "/mail/jon")
        self.assertIn("are the same mailbox", str(self.assertRaises(ValidationError, mailbox, users=["jon", "Jon"])))

    def test_a_name_that_no_folder_has_is_a_mistake(self) -> None:
        for name in "", ".", "..", ".hidden", "a/b", "/etc", "a\0b", "a\nb", "x" * 256:
            self.assertRaises(ValidationError, mailbox, users=[name])
            self.assertRaises(ValidationError, mailbox, postmaster=name)

    def test_the_path_is_absolute_whatever_the_configuration_says(self) -> None:
        path = folder(mailbox(directory="var/../mail").route(inquiry("jon@localhost")))
        self.assertEqual(path, str(Path.cwd() / "mail/jon"))

    def test_verdicts_are_kept_ready_but_not_without_end(self) -> None:
        policy = mailbox(users="any")
        self.assertIs(policy.route(inquiry("jon@localhost")), policy.route(inquiry("JON@example.org")))
        for number in range(25_000):
            self.assert_folder(policy, f"n{number}", f"/mail/n{number}")
        self.assertLessEqual(len(policy._ready), 10_000)

    @given(
        st.text(min_size=1, max_size=30),
        st.sampled_from(["any", "system", ["jon"]]),
        st.sampled_from(["maildir", "mbox"]),
    )
    def test_no_local_part_leads_out_of_the_directory(self, local: str, who: Any, form: str) -> None:
        policy = mailbox(users=who, format=form)
        address = Address(local, "example.org")
        path = folder(policy.route(Inquiry(address, address, None, inquiry("a@b").client)))
        if path is not None:
            self.assertEqual(str(Path(path).resolve().parent), "/mail")


class UsersOfTheSystemTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fake = FakeWorld()
        self.accounts = {"jon", "daemon"}
        self.asked: list[str] = []
        self.users = OfTheSystem(self.fake.world.clock, self.account)

    def account(self, name: str) -> object:
        self.asked.append(name)
        if name not in self.accounts:
            raise KeyError(name)
        return name

    def test_those_who_have_an_account_have_a_mailbox(self) -> None:
        self.assertEqual([self.users.folder(name) for name in ("jon", "elvis")], ["jon", None])

    def test_the_system_is_asked_once_a_minute_about_each_name(self) -> None:
        for _ in range(3):
            self.users.folder("jon"), self.users.folder("elvis")
        self.assertEqual(self.asked, ["jon", "elvis"])
        self.accounts = {"elvis"}
        self.fake.clock.advance(59)
        self.assertEqual(self.users.folder("elvis"), None)
        self.fake.clock.advance(1)
        self.assertEqual((self.users.folder("elvis"), self.users.folder("jon")), ("elvis", None))

    def test_the_system_is_not_asked_about_names_that_no_folder_may_have(self) -> None:
        for name in "../jon", "a b", "jon\0", ".jon":
            self.assertIsNone(self.users.folder(name))
        self.assertEqual(self.asked, [])

    def test_strangers_who_try_names_do_not_fill_the_memory(self) -> None:
        for number in range(25_000):
            self.users.folder(f"n{number}")
        self.assertLessEqual(len(self.users._known), 10_000)

    def test_accounts_of_this_machine_have_a_mailbox_where_users_is_system(self) -> None:
        name = pwd.getpwuid(0).pw_name
        policy = mailbox(users="system")
        self.assertEqual(folder(policy.route(inquiry(f"{name.upper()}+x@localhost"))), f"/mail/{name}")
        self.assertEqual(folder(policy.route(inquiry("no-such-account-here@localhost"))), None)


class UsersInAFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.file = directory / "users"
        self.file.write_text("# people here\njon\n\nAnn   # and Ann\n")
        self.fake = FakeWorld()
        options = MailboxOptions.model_validate({**LISTED, "users": {"file": str(self.file)}})
        self.policy = Mailbox(options, self.fake.world)

    def test_those_whom_the_file_names_have_a_mailbox(self) -> None:
        found = [folder(self.policy.route(inquiry(f"{name}@localhost"))) for name in ("jon", "ann", "elvis", "#")]
        self.assertEqual(found, ["/mail/jon", "/mail/Ann", None, None])

    def test_who_is_added_has_a_mailbox_a_second_later_and_who_is_removed_has_none(self) -> None:
        self.policy.route(inquiry("jon@localhost"))
        self.file.write_text("elvis\n")
        self.fake.clock.advance(1)
        found = [folder(self.policy.route(inquiry(f"{name}@localhost"))) for name in ("jon", "elvis")]
        self.assertEqual(found, [None, "/mail/elvis"])

    def test_a_file_that_is_gone_makes_nobody_unknown(self) -> None:
        self.file.unlink()
        self.fake.clock.advance(1)
        self.assertRaises(ValueError, self.policy.route, inquiry("elvis@localhost"))

    def test_a_wrong_line_is_named(self) -> None:
        for text, words in {"jon\n../x\n": "line 2: ", "jon\nJon\n": "line 2: ", "\n\n.\n": "line 3: "}.items():
            self.assertIn(words, str(self.assertRaises(ValueError, table_in, text)))


class AnyoneTests(SynchronousTestCase):
    @given(st.text(max_size=20))
    def test_a_folder_is_never_made_of_more_than_plain_characters(self, name: str) -> None:
        found = Anyone().folder(name)
        if found is not None:
            self.assertEqual(found, name)
            self.assertLessEqual(set(found), set("abcdefghijklmnopqrstuvwxyz0123456789._-"))
            self.assertFalse(found.startswith("."))
