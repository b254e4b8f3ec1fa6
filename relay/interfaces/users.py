"""Who users are, and how they prove it."""

from __future__ import annotations

from zope.interface import Attribute, Interface

from relay.smtp.scram import ScramKeys


class CredentialsUnavailable(Exception):
    """
    Nobody can say now whether the user is who it claims to be: 454 4.7.0 for the client (RFC 4954 section 6).

    The words are for the operator, and never have a password in them.
    """


class ICredentials(Interface):
    """
    Knows users, and answers the questions of `relay.smtp.sasl`.

    Providers: `relay.net.password_file`, `relay.net.dovecot_auth`, and `relay.net.credentials` for checkers of
    `twisted.cred`.

    For a user who does not exist it does the same work as for one who does, and takes as long. A user's name comes
    prepared by SASLprep, and a password as the client said it. Both methods raise `CredentialsUnavailable`;
    any other exception is a mistake in the provider. Either is answered with 454 4.7.0, and never counts as a failure
    of the client. When what is awaited is cancelled, nobody is interested in the answer any more.
    """

    scram = Attribute("Whether `scram_keys` has keys at all: SCRAM is not offered otherwise.")
    secret = Attribute(
        "At least 32 octets that nobody knows: the keys of users who do not exist are made from them. They should be"
        " the same after a restart, and on each machine that has the same users."
    )

    async def check_password(user: str, password: str) -> str | None:
        """The user's name, as policies and logs are to see it, if this is its password; else `None`."""

    async def scram_keys(user: str) -> ScramKeys | None:
        """The keys of this user, or `None` where there is no such user, or one that has none."""
