"""What is right by itself and wrong beside the rest: listeners and the users that they ask for, files in one place."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relay.config.addresses import Inet, Unix
from relay.config.listeners import ListenerSettings
from relay.config.settings import Settings
from relay.config.wording import Complaint

_SMTP_PORT: Final = 25

#: Stands for the directory of the file, deep enough for as many `..` as anybody writes.
_BASE: Final = Path("/", *["<base>"] * 32)

#: RFC 2033 section 5.
_NEEDED_BY_LMTP: Final = ("PIPELINING", "ENHANCEDSTATUSCODES")
#: Keys that say how TLS is spoken.
_ABOUT_TLS: Final = ("certificates", "minimum_tls", "ciphers", "client_authorities")


def contradictions(settings: Settings) -> Iterator[Complaint]:
    """Every one, at the key that should be changed."""
    for index, listener in enumerate(settings.listener):
        for key, text in _of_listener(listener, settings):
            yield Complaint(("listener", index, key), text)
    yield from _of_files(settings)
    source = settings.auth.source
    if source is None:
        return
    if settings.listener and all(listener.tls == "none" for listener in settings.listener):
        yield Complaint(
            ("auth", source), "nobody would ever be asked: AUTH is not offered without TLS, and no listener has 'tls'"
        )
    elif settings.listener and all(
        (each.tls == "none" or "AUTH" in each.without) and each.protocol != "submission" for each in settings.listener
    ):
        yield Complaint(("auth", source), "nobody would ever be asked: no listener with 'tls' offers AUTH")
    if source != "passwords" and not {"PLAIN", "LOGIN"} & set(settings.auth.mechanisms):
        yield Complaint(("auth", "mechanisms"), f"'{source}' knows PLAIN and LOGIN only")


def _of_files(settings: Settings) -> Iterator[Complaint]:
    """Files that the relay writes anew when they are not what it expects: each has to be its alone."""
    spool = _placed(settings.spool.path)
    history, suppression = settings.history, settings.suppression
    taken = {"the control socket": _placed(settings.control.socket)}
    if isinstance(settings.log.mail, Path):
        taken["the mail log"] = _placed(settings.log.mail)
    if settings.auth.passwords is not None:
        taken["the file of passwords"] = _placed(settings.auth.passwords)
    written = []
    if suppression.keep:
        place = spool.parent / "suppressed" if suppression.path is None else _placed(suppression.path)
        written.append(("suppression", "the suppression list", place))
    if history.keep and settings.spool.engine != "memory":
        place = spool.parent / "history.db" if history.path is None else _placed(history.path)
        written.append(("history", "the history", place))
    if settings.spool.engine != "memory":
        place = spool.parent / "store.db" if settings.store.path is None else _placed(settings.store.path)
        written.append(("store", "the policies' store", place))
    for section, name, place in written:
        if spool == place or spool in place.parents:
            yield Complaint((section, "path"), "is within the spool, where nothing else may be: say another file")
        for other, its in taken.items():
            if its == place:
                yield Complaint((section, "path"), f"is {other}: say another file")
        taken[name] = place


def _placed(path: Path) -> Path:
    return Path(os.path.normpath(_BASE / path))


def _of_listener(listener: ListenerSettings, settings: Settings) -> Iterator[tuple[str, str]]:
    """Keys of a listener, and what is wrong with each."""
    if listener.protocol == "submission":
        yield from _of_submission(listener, settings)
    if listener.protocol == "lmtp":
        yield from _of_lmtp(listener)
    if listener.tls == "none":
        for key in _ABOUT_TLS:
            if key in listener.model_fields_set:
                yield key, "means nothing here: the listener's 'tls' is \"none\""
        for key in () if listener.local_users else ("expand", "verify"):
            if getattr(listener, key) in (True, "authenticated"):
                yield key, "nobody could ask: that is for clients that have authenticated, and needs 'tls'"
    if "AUTH" in listener.without:
        for key in ("expand", "verify"):
            if getattr(listener, key) in (True, "authenticated"):
                yield key, "nobody could ask: that is for clients that have authenticated, and AUTH is not offered here"
    if isinstance(listener.address, Unix):
        for key in ("proxy", "xclient"):
            if getattr(listener, key):
                yield key, "means nothing here: whoever connects to a Unix socket has no address"
    if "BINARYMIME" in listener.also and "CHUNKING" in listener.without:
        yield "also", "BINARYMIME may not be offered without CHUNKING (RFC 3030 section 3)"


def _of_submission(listener: ListenerSettings, settings: Settings) -> Iterator[tuple[str, str]]:
    if listener.tls == "none":
        yield "protocol", "'submission' needs 'tls': people prove who they are, and that is not offered without"
    by_certificate = listener.client_authorities is not None and "EXTERNAL" in settings.auth.mechanisms
    by_password = settings.auth.source is not None and set(settings.auth.mechanisms) != {"EXTERNAL"}
    if not by_password and not by_certificate:
        yield (
            "protocol",
            "'submission' needs users: set 'passwords', 'dovecot' or 'checker' in [auth], or 'client_authorities' here",
        )
    if "AUTH" in listener.without:
        yield "without", "'submission' needs AUTH (RFC 6409 section 4.3)"


def _of_lmtp(listener: ListenerSettings) -> Iterator[tuple[str, str]]:
    if isinstance(listener.address, Inet) and listener.address.port == _SMTP_PORT:
        yield "address", "port 25 is SMTP's: LMTP has to be elsewhere (RFC 2033 section 5)"
    for keyword in _NEEDED_BY_LMTP:
        if keyword in listener.without:
            yield "without", f"'lmtp' needs {keyword} (RFC 2033 section 5)"
