"""
Reading the configuration again while the relay runs.

The file is checked by a process of its own, so that nothing that is wrong with it, or slow, is met by the reactor; then
all that it decides is made beside what is in force, and takes its place in one step. Whatever goes wrong before that
step changes nothing; behind it nothing can be undone, and what goes wrong there is a warning.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger

from relay.assembly import Generation, Relay
from relay.config.errors import ConfigurationError
from relay.config.file import settings_of
from relay.config.restarts import restarts
from relay.config.settings import Settings
from relay.control.reloading import InForce, Reloaded
from relay.encryption import Encryption
from relay.interfaces import IClock
from relay.net.threads import IThreads, Stop
from relay.net.tls_files import Unusable
from relay.net.waiting import start
from relay.policy.blocking import Blocking
from relay.policy.registry import names, option_model

#: Seconds that a check may take.
PATIENCE: Final = 60.0
#: Seconds between two looks at whether anybody still waits for it.
_LOOK: Final = 0.2
#: Lines of a check that are passed on.
_MOST_LINES: Final = 100
_DIGITS: Final = 12
_WARNING: Final = "warning: "


@frozen
class Checked:
    """What a check has said. There are problems if it has failed."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


_STOPS: Final = Checked(("the relay stops",))


class Source:
    """Where a configuration comes from: from its file, which is checked by another process."""

    def digest(self, name: str) -> str:
        """What it is known by as it is now; "" if it cannot be read. `name` is the file's, as the operator calls it."""
        return digest_of(name)

    def check(self, name: str, stop: Stop) -> Checked:
        """Check it, away from everything: called in a thread, where it may wait."""
        return check_apart(name, stop)

    def settings(self, name: str) -> Settings:
        """What it says. Raises `ConfigurationError`."""
        return settings_of(name, option_model, names)


#: Checks the file of this name, away from everything.
Check: TypeAlias = Callable[[str, Stop], Checked]


def digest_of(file: str) -> str:
    """What the file of this name is known by; "" if it cannot be read."""
    try:
        return sha256(Path(file).read_bytes()).hexdigest()[:_DIGITS]
    except OSError:
        return ""


class Reloading:
    """Reads the configuration of a relay again, one time after the other."""

    def __init__(
        self,
        relay: Relay,
        encryption: Encryption,
        clock: IClock,
        threads: IThreads,
        *,
        file: str,
        source: Source | None = None,
        check: Check | None = None,
        adopted: Callable[[], None] = lambda: None,
        log: Logger | None = None,
    ) -> None:
        """
        `file` is what the operator calls it, `check` what looks at it in place of the `source`. `adopted` is called
        when there is a new generation.
        """
        self._relay = relay
        self.encryption = encryption
        self._clock = clock
        self._threads = threads
        self._file = file
        #: twistd may change its directory.
        self._path = os.path.abspath(file)
        self._source = source or Source()
        self._check = check or self._source.check
        self._adopted = adopted
        self._log = log or Logger(namespace="relay")
        self._one = DeferredLock()
        self._code = Code()
        self._code.changed(self._modules())
        #: The check that is under way.
        self._checking: Any = None
        self._stopped = False
        self.in_force = InForce(file, self._source.digest(file), clock.seconds())

    def stop(self) -> None:
        """Nothing changes any more."""
        self._stopped = True
        if self._checking is not None:
            self._checking.cancel()

    @property
    def busy(self) -> bool:
        """One is under way, and another one waits: a third would find out no more than that one."""
        return bool(self._one.waiting)

    async def __call__(self) -> Reloaded:
        """Read it. Never raises."""
        await self._one.acquire()
        try:
            if not self._stopped:
                # Those of which the file says nothing new, and also where it is not used.
                self.encryption.reread(aloud=True)
            said = await self._reloaded()
        finally:
            self._one.release()
        self._tell(said)
        return said

    async def _reloaded(self) -> Reloaded:
        name = self._file if os.path.abspath(self._file) == self._path else self._path
        before = self._source.digest(name)
        checked = await self._checked(name)
        if checked.problems:
            return self._refused(checked.problems, checked.warnings)
        # A large table that has changed is read elsewhere: `prepare` would keep everybody waiting for it.
        await self._relay.generation.tables.refresh()
        if self._stopped:
            return self._refused(_STOPS.problems)
        try:
            settings = self._source.settings(name)
            if self._source.digest(name) != before:
                return self._refused([f"{name}: it has changed while it was checked: say it again"])
            found = [settings.problem(name, each.path, each.text) for each in restarts(self._relay.settings, settings)]
            if found:
                raise ConfigurationError(found)
            warnings = (*checked.warnings, *self._code.changed(self._modules()))
            generation, encryption = self._prepared(settings, name)
        except ConfigurationError as error:
            return self._refused([str(problem) for problem in error.problems], checked.warnings)
        except Exception:
            self._log.failure("The configuration cannot be used")
            return self._refused(["an internal error: the log has more"])
        self.in_force = InForce(self._file, before, self._clock.seconds())
        return Reloaded(True, before, warnings=(*warnings, *self._switch(generation, encryption)))

    async def _checked(self, name: str) -> Checked:
        if self._stopped:
            return _STOPS
        try:
            answer: Awaitable[Checked] = self._threads.run(lambda stop: self._check(name, stop))
            said: Checked | Deferred[Checked] = start(answer)
            if isinstance(said, Deferred):
                self._checking = said
                said = await said
            checked: Checked = said
        except CancelledError:
            return _STOPS
        except OSError as problem:
            return Checked((f"{name}: it cannot be checked: {problem}",))
        finally:
            self._checking = None
        return _STOPS if self._stopped else checked

    def _prepared(self, settings: Settings, name: str) -> tuple[Generation, Encryption]:
        """All that is used from then on. Nothing of it is used yet. Raises `ConfigurationError`."""
        relay, encryption = self._relay, self.encryption
        if _about_tls(settings) != _about_tls(relay.settings):
            encryption = Encryption(settings, self._clock, file=name)
            try:
                encryption.start()
            except (OSError, Unusable) as problem:
                text = f"there can be no certificate of its own: {problem}"
                raise ConfigurationError([settings.problem(name, ("tls", "own"), text)]) from problem
        try:
            generation = relay.prepare(settings, file=name, tls=encryption.listeners)
        except BaseException:
            if encryption is not self.encryption:
                encryption.stop()
            raise
        return generation, encryption

    def _switch(self, generation: Generation, encryption: Encryption) -> tuple[str, ...]:
        """Use it. Never raises: what could not be done is a warning, and keeps nothing else from being done."""
        self.encryption, old = encryption, self.encryption
        warnings = []
        for step, text in (
            (lambda: self._relay.adopt(generation), "not everything has taken it up"),
            (old.stop if old is not encryption else lambda: None, "the certificates of before are still looked at"),
            (self._adopted, "'relayctl' may speak of the one before"),
            # As those are now that have come with it.
            (lambda: self._code.changed(self._modules()), "it is not known which code of policies is used"),
        ):
            try:
                step()
            except Exception:
                self._log.failure("The configuration is in force, but {text}", text=text)
                warnings.append(f"it is in force, but {text}: the log has more, and a restart helps")
        return tuple(warnings)

    def _refused(self, problems: Sequence[str], warnings: Sequence[str] = ()) -> Reloaded:
        return Reloaded(False, self.in_force.digest, tuple(problems), tuple(warnings))

    def _tell(self, said: Reloaded) -> None:
        for warning in said.warnings:
            self._log.warn("{warning}", warning=warning)
        if said.done:
            self._log.info("{file} is in force as it is now ({digest})", file=self._file, digest=said.digest)
            return
        if self._stopped:
            self._log.info("{file} was not reloaded: the relay stops", file=self._file)
            return
        for problem in said.problems:
            self._log.error("{problem}", problem=problem)
        self._log.error("{file} was not reloaded: all goes on as it was", file=self._file)

    def _modules(self) -> Iterator[ModuleType]:
        """The code of others that decides here."""
        for station in self._relay.chain.stations:
            policy = station.policy.policy if isinstance(station.policy, Blocking) else station.policy
            yield from _of_package(type(policy).__module__)
        for said in self._relay.settings.policy:
            agent = getattr(said.options, "agent", None)
            if isinstance(agent, str) and ":" in agent:
                yield from _of_package(agent.partition(":")[0])


@frozen
class Code:
    """Files of plugins, as they were when they were seen first: a process imports each once."""

    _seen: dict[str, tuple[int, int]] = field(factory=dict)

    def changed(self, modules: Iterator[ModuleType]) -> tuple[str, ...]:
        """A sentence for each that is not as it was."""
        told: dict[str, str] = {}
        for module in modules:
            path = getattr(module, "__file__", None) or ""
            sign = _sign(path)
            if sign is not None and self._seen.setdefault(path, sign) != sign:
                told[path] = (
                    f"the code of '{module.__name__}' has changed ({path}), and a reload does not import it again: "
                    "restart the relay to use it"
                )
        return tuple(told.values())


def _of_package(name: str) -> Iterator[ModuleType]:
    """The module, and all others that came with it. Our own do not change under us, but for those of the site."""
    top = "relay.plugins" if name.startswith("relay.plugins.") else name.partition(".")[0]
    if top == "relay":
        return
    for other, module in list(sys.modules.items()):
        if (other == top or other.startswith(f"{top}.")) and isinstance(module, ModuleType):
            yield module


def _sign(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _about_tls(settings: Settings) -> Any:
    return settings.tls, [
        (each.name, each.tls, each.certificates, each.minimum_tls, each.ciphers, each.client_authorities)
        for each in settings.listener
    ]


def check_apart(file: str, stop: Stop) -> Checked:
    """`relayctl check`, in a process that has the same modules at hand. Called in a thread, where it may wait."""
    process = subprocess.Popen(  # noqa: S603  # it is ourselves
        [sys.executable, "-P", "-m", "relay.cli", "check", "--brief", file],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
        text=True,
        errors="replace",
    )
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                _, said = process.communicate(timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                stop.check()
                if time.monotonic() >= deadline:
                    return Checked((f"{file}: its check has not ended within {PATIENCE:g} s",))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    lines = [line for line in said.splitlines() if line.strip()]
    warnings = tuple(line.removeprefix(_WARNING) for line in lines if line.startswith(_WARNING))[:_MOST_LINES]
    if process.returncode == 0:
        return Checked((), warnings)
    problems = [line for line in lines if not line.startswith(_WARNING)][-_MOST_LINES:]
    return Checked(tuple(problems) or (f"{file}: its check has ended with status {process.returncode}",), warnings)
