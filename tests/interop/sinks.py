"""Servers that take mail and keep it for us: Postfix's `smtp-sink`, with its faults, and aiosmtpd."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiosmtpd.controller import Controller, UnixSocketController
from aiosmtpd.lmtp import LMTP
from attrs import define, field

from tests.interop.peers import NOBODY, Server, free_port, permit

#: What `smtp-sink -d` puts on top of a message: what it was told in the dialogue, and a field of its own.
_ABOVE: Final = re.compile(
    rb"(?:X-[\w-]+: [^\n]*\n)*Received: from [^\n]*\n\tby smtp-sink [^\n]*\n(?:\t[^\n]*\n)*", re.IGNORECASE
)


@define
class Sink:
    """An `smtp-sink` that runs, on a port of its own."""

    folder: Path
    host: str
    port: int
    server: Server

    @classmethod
    def start(cls, folder: Path, *options: str, host: str = "127.0.0.1", port: int | None = None) -> Sink:
        """
        Start one in `folder`, which may not be there yet. Options as in smtp-sink(1).

        One at a time: asked whether it is there, it would count us among its clients, so it is asked for nothing.
        """
        folder.mkdir(exist_ok=True)
        permit(folder, folder / "mail")
        port = free_port(host) if port is None else port
        user = ("-u", NOBODY) if os.geteuid() == 0 else ()
        server = Server(
            folder / "log", "smtp-sink", *user, "-d", folder / "mail/%M.", *options, f"{host}:{port}", "1000"
        )
        server.wait_for((host, port))
        return cls(folder, host, port, server)

    @property
    def next_hop(self) -> str:
        return f"{self.host}:{self.port}"

    def __len__(self) -> int:
        """How many files it has begun."""
        return len(list((self.folder / "mail").iterdir()))

    @property
    def dumps(self) -> list[bytes]:
        """All that it has taken, with what it was told above it. What was broken off may be among it."""
        return [path.read_bytes() for path in sorted((self.folder / "mail").iterdir())]

    @property
    def messages(self) -> list[bytes]:
        """What we have sent it, with CRLF at the end of lines. It puts an empty line behind each message."""
        whole = [_ABOVE.sub(b"", dump, count=1) for dump in self.dumps]
        return [octets.removesuffix(b"\n").replace(b"\n", b"\r\n") for octets in whole]

    def stop(self) -> None:
        self.server.stop()


class _AtSocket(UnixSocketController):  # type: ignore[misc]
    def factory(self) -> LMTP:
        return LMTP(self.handler, **self.SMTP_kwargs)


@define
class Aiosmtpd:
    """An aiosmtpd in a thread of ours. It keeps the octets that it was sent."""

    messages: list[tuple[str, Sequence[str], Sequence[str], bytes]] = field(factory=list)
    #: How each of them came.
    sessions: list[Any] = field(factory=list)
    options: dict[str, Any] = field(factory=dict)
    port: int = 0
    _controller: Any = None

    def start(self) -> None:
        self.port = free_port()
        self._run(Controller(self, hostname="127.0.0.1", port=self.port, **self._all))

    def start_at(self, path: Path) -> None:
        """Speak LMTP on a Unix socket."""
        self._run(_AtSocket(self, str(path), **self._all))

    @property
    def _all(self) -> dict[str, Any]:
        return {"enable_SMTPUTF8": True, "data_size_limit": 50 * 1024 * 1024, **self.options}

    def _run(self, controller: Any) -> None:
        self._controller = controller
        controller.start()

    async def handle_DATA(self, server: object, session: Any, envelope: Any) -> str:
        content = bytes(envelope.original_content)
        self.sessions.append(session)
        self.messages.append((envelope.mail_from, envelope.rcpt_tos, envelope.mail_options, content))
        # Its LMTP leaves it to us to have a reply for each recipient (RFC 2033 section 4.2).
        replies = len(envelope.rcpt_tos) if isinstance(server, LMTP) else 1
        return "\r\n".join(["250 2.0.0 taken"] * replies)

    def stop(self) -> None:
        self._controller.stop()
