"""A Dovecot of a test's own: IMAP on loopback over the Maildirs of a relay, any password is right."""

from __future__ import annotations

import imaplib
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.interop.peers import NOBODY, PATIENCE, Server, free_port, permit

_CONFIGURATION: Final = """\
base_dir = {folder}/run
state_dir = {folder}/state
protocols = imap
listen = 127.0.0.1
log_path = /dev/stderr
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
default_vsz_limit = 1G
mail_location = maildir:{mail}/%u:INDEX={folder}/index/%u
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/index/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


@frozen
class Dovecot:
    """One that runs. It is root, and reads mail as whoever owns the folder of Maildirs."""

    port: int
    server: Server

    @classmethod
    def start(cls, folder: Path, mail: Path) -> Dovecot:
        permit(folder, folder / "index")
        port = free_port()
        text = _CONFIGURATION.format(folder=folder, mail=mail, port=port, user=NOBODY, group="nogroup")
        (folder / "dovecot.conf").write_text(text)
        server = Server(folder / "log", "dovecot", "-F", "-c", folder / "dovecot.conf")
        server.wait_for(("127.0.0.1", port))
        return cls(port, server)

    def reader(self, user: str) -> imaplib.IMAP4:
        """Somebody who has opened a mailbox's INBOX."""
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=PATIENCE)
        client.login(user, "any")
        client.select()
        return client

    def stop(self) -> None:
        self.server.stop()
