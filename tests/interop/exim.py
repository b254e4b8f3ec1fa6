"""
An Exim of a test's own, beside Postfix: `.ci/peers` unpacks its program and installs nothing of it.

Its program is not setuid here, so that all that it does after its start it does as `Debian-exim`.

It speaks TLS by GnuTLS, sends by BDAT, and asks for a reply for each recipient (PRDR).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.interop.mails import in_maildir, messages
from tests.interop.peers import Server, permit, until

PROGRAM: Final = "/usr/local/lib/relay-interop/exim4"
#: Mail for this domain goes to a Maildir, whoever it is for.
DOMAIN: Final = "exim.test"

_CONFIGURATION: Final = """\
exim_path = {program}
deliver_drop_privilege
primary_hostname = mx.exim.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%s
log_selector = +all
pid_file_path = {folder}/spool/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {certificate}
dsn_advertise_hosts = *
chunking_advertise_hosts = *
prdr_enable = true
smtputf8_advertise_hosts = *
accept_8bitmime = true
message_size_limit = 50M
keep_environment =
acl_smtp_rcpt = anybody
begin acl
anybody:
  deny local_parts = refused
  accept
begin routers
mailboxes:
  driver = accept
  domains = {domain}
  transport = maildir
onward:
  driver = manualroute
  route_list = * 127.0.0.1::{relay}
  self = send
  transport = remote
begin transports
maildir:
  driver = appendfile
  directory = {folder}/box
  maildir_format
remote:
  driver = smtp
  hosts_require_tls = *
  hosts_try_prdr = *
  tls_verify_hosts = *
  tls_verify_certificates = {authority}
  tls_verify_cert_hostnames = :
  tls_sni = mail.example
begin retry
* * F,1h,10s
"""


@frozen
class Exim:
    """One that runs."""

    folder: Path
    port: int
    server: Server

    @classmethod
    def start(cls, folder: Path, port: int, relay: int, *, certificate: Path, authority: Path) -> Exim:
        """Start it. What is not for `DOMAIN` goes to the port `relay` of this machine, which has to prove itself."""
        assert os.geteuid() == 0, "Exim can only be started by root: run `make interop` as root"
        permit(folder)
        for name in "spool", "log", "box":
            (folder / name).mkdir()
            shutil.chown(folder / name, "Debian-exim")
        for path, name in ((certificate, "cert.pem"), (authority, "ca.pem")):
            (folder / name).write_bytes(path.read_bytes())
            shutil.chown(folder / name, "Debian-exim")
        text = _CONFIGURATION.format(
            folder=folder,
            port=port,
            relay=relay,
            domain=DOMAIN,
            program=PROGRAM,
            certificate=folder / "cert.pem",
            authority=folder / "ca.pem",
        )
        (folder / "exim.conf").write_text(text)
        server = Server(folder / "said", PROGRAM, "-C", folder / "exim.conf", "-bdf", "-q10s")
        self = cls(folder, port, server)
        server.wait_for(("127.0.0.1", port))
        return self

    @property
    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted((self.folder / "log").iterdir()))

    def delivered(self, count: int) -> list[bytes]:
        """The messages in its Maildir, when there are so many."""
        path = self.folder / "box"
        until(lambda: len(messages(path)) >= count, lambda: self.log + self.server.said)
        return in_maildir(path)

    def stop(self) -> None:
        """End it, when it has no mail left; else the deliveries that it has begun would go on without it."""
        until(lambda: not any((self.folder / "spool/input").iterdir()), lambda: self.log)
        self.server.stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGKILL)
