"""
aiosmtpd with a handler that throws everything away: what taking mail costs there.

    python -m bench.discarding PORT
"""

from __future__ import annotations

import asyncio
import sys

from aiosmtpd.smtp import SMTP


class Discard:
    """Keeps nothing."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        return "250 2.0.0 taken"


async def main(port: int) -> None:
    handler = Discard()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="aiosmtpd.test"), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
