"""A Dovecot that knows users for others, takes mail by LMTP, and passes it on to us by LMTP or for people who log in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.interop.mails import in_maildir, messages
from tests.interop.peers import NOBODY, Server, free_port, permit, until

#: Whoever shows a token that was made with this key is whom it names.
TOKEN_KEY: Final = b"a key that nobody else knows"

_CONFIGURATION: Final = """\
base_dir = {folder}/run
state_dir = {folder}/state
protocols = lmtp submission
listen = 127.0.0.1
log_path = /dev/stderr
auth_debug = yes
hostname = dovecot.test
first_valid_uid = 1
default_vsz_limit = 1G
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256 xoauth2
auth_failure_delay = 0
auth_username_chars =
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/cert.pem
ssl_client_ca_file = {folder}/ca.pem
mail_location = maildir:{folder}/mail/%u
lmtp_proxy = yes
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/tokens.conf
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login scram-sha-256 none
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%u
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service submission-login {{
  inet_listener submission {{
    port = {submission}
  }}
}}
submission_relay_host = localhost
submission_relay_port = {relay}
submission_relay_ssl = starttls
submission_relay_ssl_verify = no
submission_relay_trusted = yes
submission_relay_rawlog_dir = {folder}/said
lmtp_proxy_rawlog_dir = {folder}/said
"""

_TOKENS: Final = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = sub
"""

#: In its raw logs each line has a time before it.
_COMMAND: Final = re.compile(r"(?m)^[0-9.]+ ((?:[EL]HLO|MAIL|RCPT|BDAT|DATA|XCLIENT|STARTTLS)\b.*)$")


@frozen
class DovecotServices:
    """One that runs."""

    folder: Path
    lmtp: int
    submission: int
    server: Server

    @classmethod
    def start(
        cls, folder: Path, users: Mapping[str, str], *, certificate: Path, authority: Path, relay: int = 0
    ) -> DovecotServices:
        """
        Start it with users and their passwords, behind which further fields of its file of users may stand.

        What people send by its submission service goes to the port `relay` of this machine.
        """
        permit(folder, folder / "mail", folder / "keys", folder / "said")
        (folder / "said").chmod(0o777)
        key = folder / "keys/default/HS256/default"
        key.parent.mkdir(parents=True)
        key.write_bytes(base64.b64encode(TOKEN_KEY))
        for path in folder.joinpath("keys").rglob("*"):
            path.chmod(0o755)
        (folder / "cert.pem").write_bytes(certificate.read_bytes())
        (folder / "ca.pem").write_bytes(authority.read_bytes())
        (folder / "users").write_text("".join(f"{user}:{fields}\n" for user, fields in users.items()))
        (folder / "tokens.conf").write_text(_TOKENS.format(folder=folder))
        ports = {"lmtp": free_port(), "submission": free_port(), "relay": relay}
        text = _CONFIGURATION.format(folder=folder, user=NOBODY, group="nogroup", **ports)
        (folder / "dovecot.conf").write_text(text)
        server = Server(folder / "log", "dovecot", "-F", "-c", folder / "dovecot.conf")
        server.wait_for(*(("127.0.0.1", ports[name]) for name in ("lmtp", "submission")))
        return cls(folder, ports["lmtp"], ports["submission"], server)

    @property
    def auth(self) -> Path:
        """The socket at which it is asked whether a password is right."""
        return self.folder / "run/auth-client"

    @property
    def lmtp_socket(self) -> Path:
        return self.folder / "run/lmtp"

    def delivered(self, user: str, count: int = 1) -> list[bytes]:
        """What it has put into a mailbox, when it is so much."""
        path = self.folder / "mail" / user
        until(lambda: len(messages(path)) >= count, lambda: f"{user}\n{self.server.said}")
        return in_maildir(path)

    @property
    def commands(self) -> list[str]:
        """What it has said to those to whom it passes mail on, without the content."""
        texts = [path.read_text(errors="replace") for path in (self.folder / "said").iterdir() if path.suffix == ".out"]
        return [line for text in texts for line in _COMMAND.findall(text)]

    def stop(self) -> None:
        self.server.stop()


def token(user: str, lasting: float = 600) -> str:
    """A JSON web token (RFC 7519) for a user, signed with `TOKEN_KEY`."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "nbf": now - 60, "exp": int(now + lasting)}
    signed = b".".join(_base64url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims))
    return (signed + b"." + _base64url(hmac.digest(TOKEN_KEY, signed, hashlib.sha256))).decode()


def _base64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
