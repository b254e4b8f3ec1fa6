"""
twisted.mail, which takes mail and throws it away: what taking costs with the other SMTP of Twisted. On Python 3 it has
nothing that relays.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from bench.scenarios import Durability, Route
from bench.servers import Measured
from bench.trees import HERE
from tests.interop.peers import Server, free_port


class TwistedMail(Measured):
    """A process of it."""

    name = "twisted.mail"
    durable: ClassVar = {Route.DISCARD: Durability.NO}

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        super().__init__(folder, free_port())
        command = [sys.executable, "-m", "bench.peers.twisted_mail_server", str(self.port)]
        command += [str(certificate)] if certificate is not None else []
        self._server = Server(folder / "log", *command, environ={"PYTHONPATH": str(HERE)})
        self._server.wait_for(("127.0.0.1", self.port))

    @property
    def version(self) -> str:
        return f"of Twisted {version('twisted')}"

    @property
    def roots(self) -> list[int]:
        return [self._server.pid]

    @property
    def configuration(self) -> str:
        return "one process, an ESMTP whose messages go nowhere (bench/peers/twisted_mail_server.py)"

    def stop(self) -> None:
        self._server.stop()
