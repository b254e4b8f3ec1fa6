"""
Starts the real twistd with a configuration of a test's own, waits until it is ready, and stops it.

    relay = RelayProcess(folder, configuration(policies=MAILBOXES))
    relay.start()
    client = Telnet(relay.address())
    relay.stop()

Nobody sleeps here. What the relay does it says, in its log or in the mail log, which both go to its standard output:
a thread reads that, and `wait_for` returns with the line that was waited for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

#: Seconds after which what did not happen will not happen. A machine that is busy is slow, a test that passes is not.
PATIENCE: Final = 30.0

REPOSITORY: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent

Address = tuple[str, int]

_LISTENING: Final = re.compile(r"Listening on (?:\[(?P<six>[^]]+)\]|(?P<four>[0-9.]+)):(?P<port>\d+) \((?P<name>\S+)\)")
#: What no log of a relay should ever show, unless a test has asked for it.
ALARM: Final = re.compile(r"Traceback|Unhandled|#critical|#error")

#: Jon, Ann and Kim have Maildirs; nobody else is known.
MAILBOXES: Final = """
[[policy]]
use = "mailbox"
domains = ["localhost"]
users = ["jon", "ann", "kim"]
directory = "mail"
"""


def configuration(
    *,
    top: str = "",
    listeners: Mapping[str, str] | None = None,
    newlines: str = "lenient",
    tables: str = "",
    spool: str = "",
    policies: str = MAILBOXES,
) -> str:
    """
    A configuration of which nothing leaves its folder, nor this machine.

    `listeners` are addresses by name; port 0 is any free port. The others are TOML: keys before the first table,
    the keys of `[spool]`, further tables, and the policies.
    """
    lines = ['hostname = "mx.test"', top, "[spool]", spool or 'path = "spool"', "[control]", 'socket = "control.sock"']
    lines += ["[log]", 'format = "json"', tables]
    for name, address in (listeners or {"local": "127.0.0.1:0"}).items():
        lines += ["[[listener]]", f'name = "{name}"', f'address = "{address}"', f'newlines = "{newlines}"']
    return "\n".join([*lines, policies, ""])


def eventually(holds: Callable[[], bool]) -> None:
    """Return when this holds, for what nobody tells us: a file, a mailbox."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.01)


class Output:
    """All lines that a process has printed, as soon as it has."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()

    def read(self, process: subprocess.Popen[str]) -> threading.Thread:
        """Read what this process says from now on, in a thread that ends with it."""
        self._ended = False
        thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        thread.start()
        return thread

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, since: int = 0, patience: float = PATIENCE) -> re.Match[str]:
        """The first match in a line from line `since` on. `AssertionError` if the process ends, or time, without it."""
        sought, at = re.compile(pattern), since
        deadline = time.monotonic() + patience
        with self._changed:
            while True:
                while at < len(self.lines):
                    match = sought.search(self.lines[at])
                    if match is not None:
                        return match
                    at += 1
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "has ended" if self._ended else f"has not said in {patience:.0f} s"
                    raise AssertionError(f"the relay {why}: {pattern}\n{self.text(since)}")
                self._changed.wait(left)

    def text(self, since: int = 0) -> str:
        return "\n".join(self.lines[since:])


class RelayProcess:
    """`twistd --nodaemon relay`, which may be started several times in the same folder."""

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        name: str = "relay.toml",
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = ("twistd", "--nodaemon", "--pidfile=", "--no_save", "relay"),
        in_child: Callable[[], None] | None = None,
    ) -> None:
        """`program` is what is started; `in_child` is called in its process before."""
        self.folder = folder
        self.configuration = folder / name
        self.configuration.write_text(text)
        self._environ = {**os.environ, "PYTHONPATH": str(folder), **(environ or {})}
        self._program = tuple(program)
        self._in_child = in_child
        self.output = Output()
        #: The output's first line since the last start.
        self.began = 0
        #: Where it listens, by listener's name.
        self.addresses: dict[str, Address] = {}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        #: Lines of the log that look like trouble, and that this test has asked for.
        self.expected: list[str] = []

    # Beginning.

    def start(self) -> None:
        """Start it, and return when it accepts connections on all its listeners."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start it, and do not wait."""
        assert self._process is None, "it runs"
        self.began = len(self.output.lines)
        self._process = subprocess.Popen(
            [sys.executable, str(BIN / self._program[0]), *self._program[1:], "--config", self.configuration.name],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=self._in_child,
        )
        self._reader = self.output.read(self._process)

    def wait_until_ready(self) -> None:
        self.wait_for("Try it: |There is no TCP listener", of_this_start=True)
        found = filter(None, map(_LISTENING.search, self.output.lines[self.began :]))
        self.addresses = {each["name"]: (each["six"] or each["four"], int(each["port"])) for each in found}

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def address(self, listener: str = "local") -> Address:
        return self.addresses[listener]

    # While it runs.

    def wait_for(self, pattern: str, since: int | None = None, *, of_this_start: bool = False) -> re.Match[str]:
        """Wait for a line of its output, from line `since` on, or from the last start on."""
        return self.output.wait_for(pattern, self.began if of_this_start or since is None else since)

    @property
    def mark(self) -> int:
        """For `wait_for`: what is said from now on."""
        return len(self.output.lines)

    def said(self, pattern: str) -> list[str]:
        """All lines so far, of all starts, in which this is found."""
        return [line for line in self.output.lines if re.search(pattern, line)]

    def event(self, what: str, id: str = "", *, since: int = 0, **fields: object) -> dict[str, Any]:
        """Wait for this event in the mail log, which is JSON here: of this message, with these fields."""
        wanted = {"event": what, **({"id": id} if id else {}), **fields}
        while True:
            line = self.wait_for(rf'^{{.*"{what}".*{re.escape(id)}', since).string
            since = self.output.lines.index(line, since) + 1
            found: dict[str, Any] = json.loads(line)
            if wanted.items() <= found.items():
                return found

    def relayctl(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run `relayctl` in the folder where its configuration is. `typed` is its standard input."""
        return subprocess.run(
            [sys.executable, str(BIN / "relayctl"), *arguments],
            cwd=self.folder,
            env=self._environ,
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    # Ending.

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit status (negative: the signal that ended it), when it has ended by itself."""
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the relay has not ended in {patience:.0f} s\n{self.output.text()}") from None
        finally:
            assert self._reader is not None
            self._reader.join(PATIENCE)
            assert process.stdout is not None
            process.stdout.close()
        return status

    def stop(self, patience: float = PATIENCE) -> None:
        """SIGTERM. It has to end as one that was told to, and its log must not show what no test has expected."""
        self.send_signal(signal.SIGTERM)
        self.wait_stopped(patience)

    def wait_stopped(self, patience: float = PATIENCE, by: signal.Signals = signal.SIGTERM) -> None:
        """The same, where the signal was sent before."""
        status = self.wait(patience)
        # twistd ends by the signal that has stopped it, so that whoever waits for it sees why; behind a shell this
        # is status 143. That it had finished its work is what the log says.
        assert status in (0, -by), f"exit status {status}\n{self.output.text()}"
        assert "Stopped" in self.output.text(self.began), f"it has not stopped in order\n{self.output.text()}"
        self.check_log()

    def kill(self) -> None:
        """`kill -9`, and nothing is left of it when this returns."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def check_log(self) -> None:
        """`AssertionError` if the log shows trouble that no test has expected."""
        alarms = [line for line in self.output.lines if ALARM.search(line)]
        unexpected = [line for line in alarms if not any(re.search(known, line) for known in self.expected)]
        assert not unexpected, "the log shows trouble:\n" + self.output.text()

    def close(self) -> None:
        """For the end of a test: stop it if it runs, in which case all of the above is checked."""
        if self._process is None:
            return
        if self.running:
            self.stop()
        else:
            status = self.wait()
            raise AssertionError(f"the relay has ended by itself, with status {status}\n{self.output.text()}")


class SystemTestCase(SynchronousTestCase):
    """A test with relays of its own, or with one that a class shares."""

    @classmethod
    def share(cls, text: str, **keywords: object) -> RelayProcess:
        """For `setUpClass`: a relay that is started now, and stopped and looked at when the class has ended."""
        relay = RelayProcess(_folder(cls.addClassCleanup), text, **keywords)  # type: ignore[arg-type]
        cls.addClassCleanup(relay.close)
        relay.start()
        return relay

    def folder(self) -> Path:
        """A folder that is gone when the test has ended."""
        return _folder(self.addCleanup)

    def relay(self, text: str, *, folder: Path | None = None, **keywords: object) -> RelayProcess:
        """A relay that is not started yet; at the end of the test it is stopped, if it still runs then."""
        relay = RelayProcess(folder or self.folder(), text, **keywords)  # type: ignore[arg-type]
        self.addCleanup(relay.close)
        return relay

    def started(self, text: str, **keywords: object) -> RelayProcess:
        """A relay that runs."""
        relay = self.relay(text, **keywords)  # type: ignore[arg-type]
        relay.start()
        return relay


def _folder(add_cleanup: Callable[..., object]) -> Path:
    directory = tempfile.TemporaryDirectory(prefix="relay-")
    add_cleanup(directory.cleanup)
    return Path(directory.name)
