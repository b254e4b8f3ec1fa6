"""
Programs of others, started for a test and gone with it.

`.ci/peers` installs them. What is missing is a failure that says its name, and never a skip: a relay that only speaks
with itself has not been tested.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

#: Where root's programs are, whoever runs the tests.
_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
#: Seconds after which what did not happen will not happen.
PATIENCE: Final = 30.0
#: Whose files are of no importance: servers that root starts write as this user.
NOBODY: Final = "nobody"


def program(name: str) -> str:
    """The path of a program, or an `AssertionError` that says how to get it."""
    found = shutil.which(name, path=_PATH)
    assert found is not None, f"{name} is not installed; `make interop` as root installs it"
    return found


def run(
    *command: str | Path, stdin: bytes = b"", status: int | None = 0, cwd: Path | None = None, **environ: str
) -> bytes:
    """Run a program to its end: what it printed. `AssertionError` unless it ends with `status` (`None`: with any)."""
    words = [program(str(command[0])), *map(str, command[1:])]
    ran = subprocess.run(
        words,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environ},
        check=False,
    )
    said = f"{' '.join(words)} ended with {ran.returncode}:\n{ran.stdout.decode(errors='replace')}"
    assert status is None or ran.returncode == status, said
    return ran.stdout


def until(happens: Callable[[], object], what: Callable[[], object] | str, patience: float = PATIENCE) -> None:
    """Wait until `happens()`. Others' programs have no way to tell us, so that we look again and again."""
    deadline = time.monotonic() + patience
    while not happens():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {patience:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens now, neither by TCP nor by UDP."""
    while True:
        with socket.create_server((host, 0)) as listening, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            port: int = listening.getsockname()[1]
            try:
                datagrams.bind((host, port))
            except OSError:
                continue
            return port


def answers(address: tuple[str, int]) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(address, PATIENCE).close()
    except OSError:
        return False
    return True


def permit(folder: Path, *owned: Path) -> None:
    """Let servers that are no longer root come to `folder`, and give them what is `owned`."""
    folder.chmod(0o755)
    for path in owned:
        path.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(path, NOBODY)


class Server:
    """A program that runs until it is stopped. What it prints is in the file `log`."""

    def __init__(self, log: Path, *command: str | Path, environ: Mapping[str, str] | None = None) -> None:
        self.log = log
        words = [program(str(command[0])), *map(str, command[1:])]
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, *addresses: tuple[str, int]) -> None:
        """Until it accepts connections at all of these. `AssertionError` if it ends instead."""

        def ready() -> bool:
            assert self._process.poll() is None, f"it has ended:\n{self.said}"
            return all(map(answers, addresses))

        until(ready, lambda: f"nobody answers at {addresses}\n{self.said}")

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, by: Sequence[str] | None = None) -> None:
        """End it, by SIGTERM or by a command of its own, and wait until it is gone."""
        if by is not None:
            run(*by, status=None)
        elif self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self._process.args!r} did not end\n{self.said}") from None
