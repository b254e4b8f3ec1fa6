"""`use = "mailbox"`: the mailboxes of our own domains."""

import os.path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from zope.interface import implementer

from relay.config.fields import Domain, Place, Section, Word
from relay.interfaces import IRoutingPolicy, World
from relay.mail.routing import ABSTAIN, Deliver, Inquiry, Reject, RoutingVerdict
from relay.policy.names import about, fold, without_detail
from relay.policy.users import Anyone, InFile, InTable, Listed, OfTheSystem, Users, folder_name, table_of

#: RFC 5321 section 4.5.1: mail to it must be accepted, in any letter case.
POSTMASTER = "postmaster"

#: The system's mailboxes, where accounts have their files from those who made the accounts.
_SYSTEM = frozenset({"/var/mail", "/var/spool/mail"})

#: How many verdicts are kept ready.
_READY = 10_000

FolderName = Annotated[str, AfterValidator(folder_name)]


class UsersFile(Section):
    """A file with a name on each line. It is read again when it changes."""

    file: Place = Field(description="The file. Blank lines, and what follows a `#`, mean nothing.")


class UsersTable(Section):
    """A table with a name in each line, and its folder if that is called otherwise."""

    table: Word = Field(description="A `[[table]]`, by its name.")


class MailboxOptions(Section):
    """What `[[policy]] use = "mailbox"` may say."""

    domains: tuple[Domain, ...] = Field(
        min_length=1, description="Domains whose mailboxes are here. The policy has no opinion on all others."
    )
    users: Literal["system", "any"] | UsersFile | UsersTable | tuple[FolderName, ...] = Field(
        default="system",
        description="Which mailboxes exist: a list of names, `{ file = ... }` with one on each line, `{ table = ... }` "
        "that has them, `system` "
        "(accounts of this machine), or `any` (every plain name; folders appear as mail comes).",
    )
    format: Literal["maildir", "mbox"] = Field(
        default="maildir", description="A Maildir for each mailbox, or a file of the format mbox."
    )
    directory: Place = Field(description="Where they are: the mailbox `jon` is `jon` in this directory.")
    detail: str = Field(
        default="+",
        max_length=1,
        description="What ends the name in `jon+lists@example.org`, which is for `jon`. Empty: nothing does.",
    )
    postmaster: FolderName = Field(
        default=POSTMASTER,
        description="The mailbox that gets the mail for `postmaster`, which is accepted always.",
    )
    unknown: Literal["reject", "abstain"] = Field(
        default="reject",
        description="What is said of a mailbox that does not exist: 550 5.1.1, or nothing, so that the next policy "
        "is asked (such as an `alias` that catches the rest).",
    )

    @field_validator("users")
    @classmethod
    def _distinct(cls, users: object) -> object:
        if isinstance(users, tuple):
            table_of(users)
        return users

    @field_validator("postmaster")
    @classmethod
    def _has_a_mailbox(cls, name: str, info: ValidationInfo) -> str:
        users = info.data.get("users")
        if isinstance(users, tuple) and name != POSTMASTER and fold(name) not in table_of(users):
            raise ValueError(f"there is no mailbox {name!r} among the users")
        return name


@implementer(IRoutingPolicy)
class Mailbox:
    """
    Delivers to the mailboxes of its domains, and says of others there that they do not exist.

    No path is made of what a client says: a folder's name is one that the table has, or it is plain.
    """

    Options = MailboxOptions
    routes = True

    def __init__(self, options: MailboxOptions, world: World) -> None:
        self._domains = frozenset(options.domains)
        self._users = _users(options, world)
        self._agent, self._parameter = ("maildir", "folder") if options.format == "maildir" else ("mbox", "file")
        self._directory = os.path.abspath(options.directory)
        self._more = {} if self._agent == "maildir" or self._directory in _SYSTEM else {"create": "yes"}
        self._detail = options.detail
        self._postmaster = options.postmaster
        self._rejects = options.unknown == "reject"
        #: By folder.
        self._ready: dict[str, Deliver] = {}

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        recipient = inquiry.recipient
        if recipient.domain not in self._domains:
            return ABSTAIN
        folder = self._folder(fold(recipient.local))
        if folder is not None:
            return self._ready.get(folder) or self._deliver(folder)
        if self._rejects:
            return Reject(about(inquiry.original, 550, "5.1.1", "user unknown"), because="there is no such mailbox")
        return ABSTAIN

    def _folder(self, name: str) -> str | None:
        """The folder for a local part: that of the whole name if there is one, else that of the name without detail."""
        plain = without_detail(name, self._detail)
        if plain == POSTMASTER:
            return self._postmaster
        folder = self._existing(name)
        if folder is None and plain != name:
            folder = self._existing(plain)
        return folder

    def _existing(self, name: str) -> str | None:
        folder = self._users.folder(name)
        if folder is not None and self._agent == "mbox" and folder.endswith(".lock"):
            return None  # whoever writes to `jon` makes `jon.lock`, and mail must not be able to do so
        return folder

    def _deliver(self, folder: str) -> Deliver:
        if len(self._ready) >= _READY:
            self._ready.clear()
        path = os.path.join(self._directory, folder)
        verdict = Deliver(self._agent, {self._parameter: path, **self._more}, because=f"mailbox {folder}")
        self._ready[folder] = verdict
        return verdict


def _users(options: MailboxOptions, world: World) -> Users:
    match options.users:
        case "system":
            return OfTheSystem(world.clock)
        case "any":
            return Anyone()
        case UsersFile(file=path):
            return InFile(path, world.clock)
        case UsersTable(table=name):
            return InTable(world.table(name))
        case names:
            return Listed(names)
