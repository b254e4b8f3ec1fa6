"""
What a relay does once, as whoever has started it: sockets are bound, the user is changed, and people are told.

One process does it by itself; where there are workers their parent does it for all of them.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeAlias

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.util import switchUID

from relay.assembly import hostname
from relay.config.addresses import Inet, Unix
from relay.config.errors import Problem
from relay.config.listeners import ListenerSettings
from relay.config.settings import Settings
from relay.control.api import Desk, site
from relay.net.listen import NoSuchSocket, is_public, listen

#: What says that this machine has no such family of addresses at all.
_NO_SUCH_FAMILY: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

#: Listeners that are bound, each with its port, which does not accept before `startReading`.
Bound: TypeAlias = Sequence[tuple[ListenerSettings, Any]]

_log = Logger(namespace="relay")


def bind(
    reactor: Any, listeners: Iterable[tuple[ListenerSettings, IProtocolFactory]], *, backlog: int, file: str
) -> Bound:
    """
    Bind all sockets. They accept nothing yet; the kernel lets clients wait. Ends the process if one cannot be bound:
    `file` is the configuration's, by its name for the operator.
    """
    wanted, ports = list(listeners), []
    for settings, factory in wanted:
        address = settings.address
        try:
            port = listen(reactor, address, factory, backlog=backlog)
        except (CannotListenError, NoSuchSocket, OSError) as problem:
            if isinstance(address, Inet) and ":" in address.host and _number(problem) in _NO_SUCH_FAMILY:
                _log.warn("This machine has no {address}: not listening there", address=str(address))
                continue
            refuse(f"{file}: cannot listen on {address}: {_place(address) or reason(problem)}", os.EX_TEMPFAIL)
        ports.append((settings, port))
    if wanted and not ports:
        refuse(f"{file}: there is no address on this machine to listen on", os.EX_TEMPFAIL)
    return ports


def missing_user(settings: Settings, file: str) -> Iterator[Problem]:
    """Whoever the relay is to become has to exist, before anything is begun."""
    for key, name, look_up in (
        ("user", settings.process.user, pwd.getpwnam),
        ("group", settings.process.group, grp.getgrnam),
    ):
        try:
            if name is not None:
                look_up(name)
        except KeyError:
            yield settings.problem(file, ("process", key), f"there is no {key} '{name}'")


def become_user(settings: Settings, ports: Bound, *, file: str) -> None:
    """Be root no more, as the settings say. Ends the process if root would serve strangers."""
    process = settings.process
    if os.geteuid() != 0:
        return
    if process.user is not None:
        user = pwd.getpwnam(process.user)
        group = grp.getgrnam(process.group).gr_gid if process.group else user.pw_gid
        switchUID(user.pw_uid, group)
        return
    public = [str(listener.address) for listener, port in ports if is_public(port)]
    if public:
        refuse(
            f"{file}: root would serve strangers on {', '.join(public)}: "
            "set [process] user, or start it as another user"
        )
    _log.warn("The relay runs as root, since only this machine can connect to it; [process] user is better")


def tell_where(ports: Bound) -> None:
    """From now on there are connections."""
    for listener, port in ports:
        _log.info("Listening on {address} ({name})", address=shown(port), name=listener.name)


def introduce(settings: Settings, ports: Bound, warnings: Iterable[Problem], is_local: Callable[[str], bool]) -> None:
    """What whoever has started it wants to know: where its mail is, what looks wrong, and how to try it."""
    _log.info("Mail that was accepted is kept in {path}", path=settings.spool.path)
    for policy in settings.policy:
        directory = getattr(policy.options, "directory", None)
        if directory is not None:
            _log.info("Mailboxes of '{name}' are in {path}", name=policy.name, path=directory)
        for source in getattr(policy.options, "source", ()):
            if not is_local(source):
                _log.warn(
                    "'{name}' sends from {source}, which is no address of this machine now: its mail waits",
                    name=policy.name,
                    source=source,
                )
    for warning in warnings:
        _log.warn("{problem}", problem=warning)
    for listener, port in ports:
        host = port.getHost()
        if getattr(host, "port", None):
            # Without -C netcat ends lines with LF alone, for which a strict listener has no patience.
            command = "nc" if listener.newlines == "lenient" else "nc -C"
            _log.info(
                "Try it: {command} {host} {port}   (and type HELP)", command=command, host=host.host, port=host.port
            )
            break
    else:
        _log.warn("There is no TCP listener, so nobody can try it by hand")


def open_control(reactor: Any, settings: Settings, desk: Callable[[], Desk], *, file: str) -> Sequence[Any]:
    """
    Where operators and their programs ask from now on: the control socket, and the page of numbers if there is to be
    one. Its ports. Ends the process if one cannot be opened.
    """
    path, address = settings.control.socket, settings.metrics.address
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        control = listen(reactor, Unix(path), site(desk), backlog=50, mode=0o600)
    except (CannotListenError, OSError) as problem:
        refuse(f"{file}: cannot open the control socket {path}: {reason(problem)}", os.EX_TEMPFAIL)
    control.startReading()
    if address is None:
        return [control]
    # Here, since what it needs is not needed without it.
    from relay.control.page import open_page

    try:
        page = open_page(reactor, address, desk, hostname(settings))
    except (CannotListenError, NoSuchSocket, OSError) as problem:
        refuse(f"{file}: cannot listen on {address} for [metrics]: {reason(problem)}", os.EX_TEMPFAIL)
    _log.info("Numbers for Prometheus are at {address}, in /metrics", address=shown(page))
    return [control, page]


def shown(port: Any) -> str:
    """Where a port listens, as the configuration would say it."""
    host = port.getHost()
    if hasattr(host, "port"):
        return str(Inet(host.host, host.port))
    name = host.name
    return f"unix:{name.decode() if isinstance(name, bytes) else name}"


def reason(problem: Exception) -> str:
    """What the kernel has said."""
    inner = getattr(problem, "socketError", problem)
    return getattr(inner, "strerror", None) or str(inner)


def _place(address: object) -> str:
    """What a socket lacks that has a file: "no such file" would speak of the one that is to be made."""
    if isinstance(address, Unix) and not address.path.parent.exists():
        return f"there is no folder {address.path.parent}"
    return ""


def _number(problem: Exception) -> int | None:
    return getattr(getattr(problem, "socketError", problem), "errno", None)


class Refused(SystemExit, Exception):
    """
    Ends the process; and twistd, which looks for an `Exception`, tidies up and tells a parent that waits for us: by its
    `str`, of which there is room for a hundred octets with the class.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(status)
        self._text = text

    def __str__(self) -> str:
        return self._text


def refuse(text: str, status: int = os.EX_CONFIG) -> NoReturn:
    """
    Nothing was begun, so nothing is lost. EX_CONFIG: the operator has to do something. EX_TEMPFAIL: the machine may
    come round by itself, so a supervisor should try again.
    """
    sys.stderr.write(f"{text}\n")
    raise Refused(text, status)


def exit_in_failure(status: int = 1) -> None:
    """For the end of a process that could not begin: its supervisor sees it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
