"""`relayctl passwd`: users and passwords in a file, for listeners with AUTH."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from relay.net.disk import Disk

#: Of standard input no more is read.
_LONGEST = 4096


@click.command(name="passwd")
@click.argument("user", metavar="USER")
@click.option("-c", "--config", metavar="FILE", help="The relay's configuration, which names the file of passwords.")
@click.option("--file", metavar="PATH", help="The file of passwords itself.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input, its first line.")
@click.option("--delete", is_flag=True, help="Take the user out of the file.")
def passwd(user: str, config: str | None, file: str | None, from_stdin: bool, delete: bool) -> None:
    """
    Set the password of USER in the relay's file of passwords, which is made if it is not there.

    The password is typed twice, and is never an argument, which everybody on this machine could see. Only its owner
    may read the file; a group may where it could before. A running relay takes it up within a second.
    """
    if (config is None) is (file is None):
        raise click.UsageError("which file? Say relayctl passwd -c CONFIGURATION USER, or --file PATH")
    if file is None:
        assert config is not None
        file = passwords_of(config)
    # Here, since `relayctl --help` needs none of it.
    from relay.net.disk import Disk
    from relay.net.passwords import Record, Unsuitable, prepared_user

    try:
        name = prepared_user(user)
        # Both before the file is locked: a person types slowly, and argon2 is slow on purpose.
        record = None if delete else Record.of(name, _password(from_stdin), secrets.token_bytes)
    except Unsuitable as problem:
        raise click.ClickException(str(problem)) from None
    try:
        rewrite(Disk(), file, lambda text: _changed(text, name, record), create=not delete)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    except ValueError as problem:
        raise click.ClickException(f"{file}: {problem}") from None
    click.echo(f"{file}: {name} is deleted" if delete else f"{file}: the password of {name} is set", err=True)


def passwords_of(config: str) -> str:
    """The file that a configuration names. It need not be there."""
    from relay.cli.loading import loaded

    path = loaded(config).auth.passwords
    if path is None:
        raise click.ClickException(f"{config}: [auth] has no 'passwords'")
    return str(path)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        line = sys.stdin.buffer.readline(_LONGEST)
        try:
            return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError:
            # Not the error itself: it would carry the password along.
            raise click.ClickException("the password is not UTF-8") from None
    # Empty is let through here, since click would ask again for ever, and refused by `Record`.
    return str(click.prompt("Password", default="", show_default=False, hide_input=True, confirmation_prompt="Again"))


def _changed(text: str, user: str, record: object) -> str:
    from relay.net.passwords import SECRET_OCTETS, Record, parse, rewritten

    assert record is None or isinstance(record, Record)
    if record is None and not any(line.startswith(f"{user}:") for line in text.split("\n")):
        raise ValueError(f"there is no user {user}")
    changed = rewritten(text, user, record, secrets.token_bytes(SECRET_OCTETS))
    # A file that the relay would refuse is not written; the line that spoils it may have been this user's, and is gone.
    parse(changed)
    return changed


def rewrite(disk: Disk, path: str, change: Callable[[str], str], create: bool = True) -> None:
    """
    Replace a file's text by what `change` makes of it: at once, durably, and not while somebody else does. One that is
    not there is empty, if it may be created.

    Its owner and its group stay, and of what others may do only that the group reads. If anything fails the file
    is as it was. Raises `OSError`, and what `change` raises.
    """
    from relay.net.disk import sync_directory, write_all

    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    beside = os.path.join(folder, f".{os.path.basename(path)}.new")
    with _locked(disk, path, os.O_CREAT if create else 0) as fd:
        status = disk.fstat(fd)
        text = change(_whole(disk, fd))
        # What lies there is left of one of us who was killed, or is somebody's trap: it is never written to.
        with suppress(FileNotFoundError):
            disk.unlink(beside)
        new = disk.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            made = disk.fstat(new)
            if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(new, status.st_uid, status.st_gid)
            os.fchmod(new, 0o600 | status.st_mode & stat.S_IRGRP)
            write_all(disk, new, text.encode("utf-8"))
            disk.sync(new)
            disk.rename(beside, path)
        except BaseException:
            disk.unlink(beside)
            raise
        finally:
            disk.close(new)
        sync_directory(disk, folder)


@contextmanager
def _locked(disk: Disk, path: str, flags: int) -> Iterator[int]:
    """The file, of which an empty one is made if there is none, under a lock that each of us takes."""
    while True:
        fd = disk.open(path, os.O_RDWR | flags)
        try:
            if not disk.lock(fd):
                raise BlockingIOError(None, "somebody else is writing to it")
            # Whoever had the lock before has put another file in its place.
            if os.path.samestat(disk.fstat(fd), disk.stat(path)):
                yield fd
                return
        finally:
            disk.close(fd)


def _whole(disk: Disk, fd: int) -> str:
    blocks = []
    while block := disk.read(fd, 65536):
        blocks.append(block)
    try:
        return b"".join(blocks).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
