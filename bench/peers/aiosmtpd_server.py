"""
aiosmtpd with a handler that throws everything away: what taking mail costs there.

    python -m bench.peers.aiosmtpd_server PORT

It imports nothing of ours, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
import sys

from aiosmtpd.smtp import SMTP


class Discard:
    """Keeps nothing."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        return "250 2.0.0 taken"


async def serve(port: int) -> None:
    """Until it is ended by a signal."""
    handler = Discard()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="aiosmtpd.test"), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
