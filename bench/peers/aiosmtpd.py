"""aiosmtpd, Python's usual answer: it takes mail, and there is nothing behind it."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from bench.scenarios import Durability, Route
from bench.servers import Measured
from bench.trees import HERE
from tests.interop.peers import Server, free_port


class Aiosmtpd(Measured):
    """A process of it."""

    name = "aiosmtpd"
    durable: ClassVar = {Route.DISCARD: Durability.NO}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port())
        command = (sys.executable, "-m", "bench.peers.aiosmtpd_server", str(self.port))
        self._server = Server(folder / "log", *command, environ={"PYTHONPATH": str(HERE)})
        self._server.wait_for(("127.0.0.1", self.port))

    @property
    def version(self) -> str:
        return version("aiosmtpd")

    @property
    def roots(self) -> list[int]:
        return [self._server.pid]

    @property
    def configuration(self) -> str:
        return "one process; its handler answers 250 and keeps nothing (bench/peers/aiosmtpd_server.py)"

    def stop(self) -> None:
        self._server.stop()
