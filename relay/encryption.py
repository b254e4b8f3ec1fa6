"""
The TLS of all listeners: from settings and files to what each shows, and from then on in step with the files.

Listeners that show the same files share their `Certificates`; those without any share one that is made here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from relay.config.errors import ConfigurationError
from relay.config.lines import KeyPath
from relay.config.listeners import ListenerSettings
from relay.config.settings import Settings
from relay.config.wording import Complaint
from relay.interfaces import IClock
from relay.net.clock import cancel
from relay.net.tls_files import Unusable, read_authorities, read_certificates
from relay.net.tls_selfmade import own_certificate
from relay.net.tls_server import INTERMEDIATE, Certificates, ServerTls, Terms

#: Seconds between two looks at the files. A look is some `stat` calls.
LOOK_EVERY: Final = 60.0

#: What our own certificate is called in the folder that `[tls] own` names.
OWN_FILE: Final = "own.pem"


class _Wrong(Exception):
    def __init__(self, complaints: list[Complaint]) -> None:
        self.complaints = complaints


class Encryption:
    """
    Made before anything starts, of files that are read then; started by the user that the relay runs as.

    In between a listener without a certificate has none yet: our own is made at the start, so that only that user can
    read it.
    """

    #: By the names of listeners; of those that have TLS.
    listeners: Mapping[str, ServerTls]

    def __init__(self, settings: Settings, clock: IClock, *, file: str, log: Logger | None = None) -> None:
        """
        `file` is the configuration's, by its name for the operator. Raises `ConfigurationError` with all that is
        wrong with certificates, keys, authorities and ciphers. Writes nothing.
        """
        self._clock = clock
        self._log = log or Logger(namespace="relay.tls")
        self._hostname = settings.hostname or "localhost"
        self._own = settings.tls.own / OWN_FILE
        self._reader = os.geteuid()
        self._certificates: dict[tuple[Path, ...], Certificates] = {}
        #: Listeners that wait for our own certificate, by name.
        self._waiting: dict[str, ServerTls] = {}
        #: The next look at the files.
        self._next_look: Any = None
        found: dict[str, ServerTls] = {}
        complaints: list[Complaint] = []
        for index, listener in enumerate(settings.listener):
            if listener.tls != "none":
                try:
                    found[listener.name] = self._listener(index, listener, settings)
                except _Wrong as wrong:
                    complaints += wrong.complaints
        if complaints:
            # Several listeners may show the same files.
            once = dict.fromkeys(complaints)
            raise ConfigurationError(settings.problem(file, each.path, each.text) for each in once)
        self.listeners = found

    def start(self) -> None:
        """
        Have our own certificate if one is needed, and look at the files from now on. Raises `OSError` if it cannot be
        written, and `Unusable` if what stands there in its place is of no use.
        """
        if self._waiting:
            self._certificates[(self._own,)] = self._own_certificates()
        if os.geteuid() != self._reader:
            self._read_again()
        if self._certificates:
            self._next_look = self._clock.callLater(LOOK_EVERY, self._look)

    def stop(self) -> None:
        """Look no more."""
        cancel(self._next_look)

    def _look(self) -> None:
        self._next_look = self._clock.callLater(LOOK_EVERY, self._look)
        self.reread()

    def reread(self, *, aloud: bool = False) -> None:
        """
        Use what is on disk now, if it has changed and can be used; if not, the log says why: once, or again where
        somebody has asked (`aloud`). Never raises.
        """
        for certificates in self._certificates.values():
            try:
                certificates.reread(aloud=aloud)
            except Exception:
                self._log.failure("The certificates cannot be read again")

    def _listener(self, index: int, listener: ListenerSettings, settings: Settings) -> ServerTls:
        """Raises `_Wrong`."""
        here: KeyPath = ("listener", index)
        where, paths = ((*here, "certificates"), listener.certificates)
        if not paths:
            where, paths = ("tls", "certificates"), settings.tls.certificates
        complaints = list(_about_terms(here, listener))
        if paths and paths not in self._certificates:
            try:
                self._certificates[paths] = Certificates(paths, self._clock, self._log)
            except Unusable as unusable:
                complaints += _to_blame(where, paths) or [Complaint(where, str(unusable))]
        if complaints:
            raise _Wrong(complaints)
        if not paths:
            waiting = self._waiting[listener.name] = ServerTls(_terms(listener))
            return waiting
        try:
            return self._certificates[paths].for_listener(_terms(listener))
        except Unusable as unusable:  # OpenSSL is more particular than those who read files
            raise _Wrong([Complaint(where, problem) for problem in unusable.problems]) from None

    def _own_certificates(self) -> Certificates:
        path = own_certificate(self._hostname, self._own, self._clock.calendar())
        certificates = Certificates([path], self._clock, self._log)
        for listener in self._waiting.values():
            certificates.serve(listener)
        if all(one.leaf.issuer == one.leaf.subject for one in certificates.current):
            self._log.warn(
                "No certificate is configured for {names}. The relay has made one itself, {path}, which clients can "
                "encrypt with but not believe: people's mail programs will refuse it. Set `certificates` in [tls]",
                names=", ".join(self._waiting),
                path=path,
            )
        return certificates

    def _read_again(self) -> None:
        """What root has read is of no use once it has changed, if the user that we are now may not read it."""
        for paths in self._certificates:
            for problem in (problem for path in paths for problem in _problems(path)):
                self._log.warn(
                    "Root has read this certificate, and the relay will not be able to when it changes: {problem}",
                    problem=problem,
                )


def _terms(listener: ListenerSettings) -> Terms:
    """Raises `ValueError`."""
    return Terms(
        minimum=listener.minimum_tls,
        ciphers=INTERMEDIATE if listener.ciphers is None else listener.ciphers,
        request_client_certificate=listener.client_authorities,
    )


def _about_terms(here: KeyPath, listener: ListenerSettings) -> Iterator[Complaint]:
    try:
        _terms(listener)
    except ValueError as error:
        yield Complaint((*here, "ciphers"), str(error))
    if listener.client_authorities is not None:
        try:
            read_authorities(listener.client_authorities)
        except Unusable as unusable:
            yield from (Complaint((*here, "client_authorities"), problem) for problem in unusable.problems)


def _to_blame(where: KeyPath, paths: Iterable[Path]) -> list[Complaint]:
    """The problems of each path by itself."""
    return [Complaint((*where, index), problem) for index, path in enumerate(paths) for problem in _problems(path)]


def _problems(path: Path) -> Iterator[str]:
    try:
        read_certificates([path])
    except Unusable as unusable:
        yield from unusable.problems
