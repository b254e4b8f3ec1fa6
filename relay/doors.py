"""
Listeners: from what the configuration says of one to who answers there, and what is offered to whom.

`relay.assembly` makes a relay's listeners of this; `relay.net.server` has the connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from attrs import evolve, frozen

from relay.config.limits import Limits
from relay.config.listeners import ListenerSettings
from relay.config.settings import Settings
from relay.control.rehearsal import Threshold
from relay.interfaces import IClock, ICredentials
from relay.mail.address import Address
from relay.mail.envelope import Client
from relay.net.admission import Admission, is_within
from relay.net.auth_limits import FailureLimits, Limiter
from relay.net.doorway import Arrival, Doorway
from relay.net.peer_user import user_at
from relay.net.tls_server import ServerTls
from relay.reception import Reception, Visit
from relay.reception.authentication import Users, user_of
from relay.smtp.extensions import ALL, Standing
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.sasl import Channel
from relay.smtp.server import ServerSession
from relay.smtp.xclient import ATTRIBUTES as XCLIENT_ATTRIBUTES

#: The address of a client of whom nobody knows where it is: that of no host (RFC 1122 section 3.2.1.3).
_UNKNOWN: Final = "0.0.0.0"  # noqa: S104, nothing is bound here

#: There are thirty-two, and all of their kind have the same one: what is kept for it is found without comparing fields.
_standing: Final = lru_cache(Standing)


@frozen
class Doors:
    """What all listeners of a relay are made with."""

    settings: Settings
    #: In canonical form.
    hostname: str
    #: By the listener's name.
    tls: Mapping[str, ServerTls]
    credentials: ICredentials | None
    reception: Reception
    admission: Admission
    limiter: Limiter

    def doorway(self, listener: ListenerSettings) -> Doorway:
        """How clients come in at this listener, and who answers them."""
        limits, clock, admission = self.settings.limits, self.reception.clock, self.admission
        profile = self._profile(listener, secure=self.tls.get(listener.name) is not None)
        users = self._users(listener)
        reception = evolve(
            self.reception,
            listener=listener.name,
            users=users,
            submission=listener.protocol == "submission",
            lmtp=profile.lmtp,
            verifies=listener.verify == "authenticated",
        )
        in_turn = listener.protocol == "smtp" and listener.early_talkers == "refuse"
        bounds = _Bounds.of(limits, admission, in_turn=in_turn)
        name, lmtp, introducing = listener.name, profile.lmtp, bool(listener.xclient)
        strange, known = (_standing(False, False, trusted, False, False) for trusted in (False, True))

        def admit(arrival: Arrival) -> tuple[ServerSession, Visit]:
            secured = arrival.secured
            if secured is None and arrival.user is None and not introducing and not arrival.greeted:
                # As nearly everybody comes: nothing is known of it but where it is.
                trusted = admission.is_trusted(arrival.address)
                standing = known if trusted else strange
                session = ServerSession(profile, bounds.of_client(trusted), standing, errors=arrival.errors)
                return session, Visit(reception, arrival)
            client = client_of(arrival, name, lmtp=lmtp)
            trusted = admission.is_trusted(client.address)
            standing = _standing(
                secured is not None,
                client.user is not None,
                trusted,
                introducing and _may_introduce(arrival, listener),
                arrival.introduced != (),
            )
            words, offer = {}, None
            if users is not None and secured is not None:
                # TLS is with the host that speaks for a client, and so is whatever it proves.
                channel = Channel() if arrival.introduced else Channel(secured.bindings(), user_of(client.tls))
                offer = users.offer(channel)
                words = {"AUTH": " ".join(offer.mechanisms), "FUTURERELEASE": _hold(limits.hold, clock)}
            session = ServerSession(
                profile, bounds.of_client(trusted), standing, words, greeted=arrival.greeted, errors=arrival.errors
            )
            return session, Visit(reception, arrival, client, offer)

        return Doorway(
            admit,
            admission,
            limits,
            clock,
            listener.proxy,
            tls=self.tls.get(listener.name),
            implicit=listener.tls == "implicit",
            greeting_delay=listener.greeting_delay or 0.0,
            identify=user_at if listener.local_users else None,
        )

    def threshold(self, listener: ListenerSettings, address: str | None) -> Threshold:
        """
        What sessions of a client at this address would be held to. Certificates and users are taken to be there where
        the settings name some: this is asked of a configuration, too, that nobody runs.
        """
        settings, secure = self.settings, listener.tls != "none"
        trusted = self.admission.is_trusted(address)
        users = secure and (settings.auth.source is not None or listener.client_authorities is not None)
        limits = session_limits(settings.limits, trusted=trusted)
        return Threshold(self._profile(listener, secure=secure), limits, trusted, users)

    def _profile(self, listener: ListenerSettings, *, secure: bool) -> Profile:
        """What a listener offers. What needs something that is not there is not offered. `secure`: there is TLS."""
        limits = self.settings.limits
        there_is = {
            "BINARYMIME": "BINARYMIME" in listener.also,
            "STARTTLS": secure and listener.tls != "implicit",
            "AUTH": secure,
            "FUTURERELEASE": listener.protocol == "submission",
            "EXPN": listener.expand,
            "XCLIENT": bool(listener.xclient),
        }
        offered = [each for each in ALL if each.keyword not in listener.without and there_is.get(each.keyword, True)]
        return Profile(
            self.hostname,
            lenient=listener.newlines == "lenient",
            extensions=tuple(offered),
            arguments={
                "SIZE": str(limits.message),
                "LIMITS": f"MAILMAX={limits.messages} RCPTMAX={limits.recipients}",
                "XCLIENT": " ".join(XCLIENT_ATTRIBUTES),
            },
            lmtp=listener.protocol == "lmtp",
            requires_tls=listener.tls == "require",
            requires_auth=listener.protocol == "submission",
            postmaster=Address("postmaster", self._home),
        )

    def _users(self, listener: ListenerSettings) -> Users | None:
        """Who may be somebody at this listener; `None`: nobody, or nobody could prove it."""
        by_certificate = listener.client_authorities is not None
        if self.tls.get(listener.name) is None or (self.credentials is None and not by_certificate):
            return None
        return Users(self.credentials, self.limiter, self.settings.auth.mechanisms)

    @property
    def _home(self) -> str:
        """
        The domain of a `<postmaster>` without one (RFC 5321 section 4.5.1): the host's own if there are mailboxes in
        it, else the first that has some.
        """
        domains = [
            domain
            for policy in self.settings.policy
            if policy.use == "mailbox"
            for domain in getattr(policy.options, "domains", ())
        ]
        return self.hostname if self.hostname in domains or not domains else domains[0]


def failure_limits(limits: Limits) -> FailureLimits:
    """How often somebody may be wrong about who it is."""
    return FailureLimits(limits.auth_failures, limits.auth_failures_per_address, limits.auth_window)


def client_of(arrival: Arrival, listener: str, *, lmtp: bool) -> Client:
    """Who has come: whoever is at the other end, or the client for whom that one speaks."""
    facts = None if arrival.secured is None else arrival.secured.facts
    client = Client(arrival.address, arrival.port, "", False, listener, arrival.user, facts, lmtp)
    if not arrival.introduced:
        return client
    said = dict(arrival.introduced)
    return evolve(
        client,
        tls=None if facts is None else evolve(facts, client_subject=None),
        # A host that speaks for others and knows no address of one speaks for a stranger all the same.
        address=said.get("ADDR", client.address) or _UNKNOWN,
        port=int(said.get("PORT") or 0),
        helo=said.get("HELO") or "",
        extended=said.get("PROTO") == "ESMTP",
        user=said.get("LOGIN"),
    )


def _may_introduce(arrival: Arrival, listener: ListenerSettings) -> bool:
    """
    Whether XCLIENT is for it. Once the host has said for whom it speaks it may pass on what that one says, and that
    one must not become somebody else by it.
    """
    if arrival.address is None:
        return False
    if any(name in ("ADDR", "LOGIN") for name, _ in arrival.introduced):
        return False
    return is_within(arrival.address, listener.xclient)


def _hold(longest: float, clock: IClock) -> str:
    """The arguments of FUTURERELEASE (RFC 4865 section 4): for how long, and until when, something is held."""
    until = datetime.fromtimestamp(int(clock.calendar() + longest), UTC)
    return f"{longest:.0f} {until:%Y-%m-%dT%H:%M:%SZ}"


@frozen
class _Bounds:
    """What sessions are held to: strangers, those whom we trust, and strangers while there are too many of them."""

    admission: Admission
    trusted: SessionLimits
    strangers: SessionLimits
    stressed: SessionLimits

    @classmethod
    def of(cls, limits: Limits, admission: Admission, *, in_turn: bool) -> _Bounds:
        strangers = evolve(session_limits(limits, trusted=False), in_turn=in_turn)
        stressed = evolve(
            strangers,
            errors=min(limits.errors, limits.errors_stressed),
            idle_commands=min(limits.idle_commands, limits.idle_commands_stressed),
        )
        return cls(admission, session_limits(limits, trusted=True), strangers, stressed)

    def of_client(self, trusted: bool) -> SessionLimits:
        """Those of a session that begins now."""
        if trusted:
            return self.trusted
        return self.stressed if self.admission.stressed else self.strangers


def session_limits(limits: Limits, *, trusted: bool) -> SessionLimits:
    """What of the limits the dialogue keeps; the trusted may idle, and send as much as they like."""
    return SessionLimits(
        command_line=limits.command_line,
        content_line=limits.content_line,
        recipients=limits.recipients,
        message=limits.message,
        errors_slow=limits.errors_slow,
        errors=limits.errors,
        chunks=limits.chunks,
        auth_line=limits.auth_line,
        idle_commands=None if trusted else limits.idle_commands,
        messages=None if trusted else limits.messages,
    )
