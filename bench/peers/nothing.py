"""The ceiling: the load straight into smtp-sink, which stores nothing. No relay can be faster in this run."""

from __future__ import annotations

from typing import ClassVar

from bench.scenarios import Durability, Route
from bench.servers import Measured, Sink


class Ceiling(Measured):
    """A sink that is a server."""

    durable: ClassVar = {Route.DISCARD: Durability.NO}
    #: With every load, whichever routes are measured.
    always = True

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink.folder, sink.port)
        self._sink = sink
        self.name = "smtp-sink" if sink.name == "smtp-sink" else "our own sink"

    @property
    def version(self) -> str:
        return self._sink.name

    @property
    def roots(self) -> list[int]:
        return [self._sink.pid]

    @property
    def configuration(self) -> str:
        return "the load straight into the sink, without a server between them: the ceiling of this machine"

    def stop(self) -> None:
        self._sink.stop()
