"""An unbound of a test's own, which knows some names below `test` and asks nobody about the rest."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.interop.peers import Server, free_port

#: `static`: what is not in the data does not exist. A zone whose primary cannot be reached is answered with SERVFAIL,
#: but for types that the data has (`typetransparent`).
_CONFIGURATION: Final = """\
server:
  interface: 127.0.0.1@{port}
  outgoing-interface: 127.0.0.1
  do-ip6: no
  do-daemonize: no
  num-threads: 1
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  log-local-actions: no
  log-queries: yes
  log-time-ascii: no
  module-config: "iterator"
  access-control: 127.0.0.0/8 allow
  max-udp-size: 1232
  local-zone: "." static
  local-zone: "broken.test." typetransparent
{data}
remote-control:
  control-enable: no
auth-zone:
  name: "broken.test."
  primary: 127.0.0.1@1
  for-downstream: yes
  fallback-enabled: no
"""


@frozen
class Unbound:
    """One that runs."""

    port: int
    server: Server

    @classmethod
    def start(cls, folder: Path, records: Iterable[str]) -> Unbound:
        """`records` as in a zone's file, with whole names."""
        port = free_port()
        data = "\n".join(f"  local-data: '{record}'" for record in records)
        (folder / "unbound.conf").write_text(_CONFIGURATION.format(port=port, folder=folder, data=data))
        server = Server(folder / "log", "unbound", "-d", "-c", folder / "unbound.conf")
        server.wait_for(("127.0.0.1", port))
        return cls(port, server)

    @property
    def address(self) -> str:
        """As it stands in a configuration."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.stop()


def common_free_port(hosts: Iterable[str]) -> int:
    """A port on which nobody listens at any of these addresses: all exchangers have the same."""
    hosts = list(hosts)
    while True:
        port = free_port(hosts[0])
        try:
            for host in hosts:
                socket.create_server((host, port)).close()
        except OSError:
            continue
        return port
