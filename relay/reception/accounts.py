"""Accounts of what was decided: kept for people to ask, with the reference by which a refusal is asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relay.mail.address import Address
from relay.mail.decision import Placement, Refused
from relay.mail.envelope import Client
from relay.mail.explanation import Decided
from relay.mail.reference import referred
from relay.mail.reply import Reply
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction


def observer(reception: Reception, steps: list[Any]) -> Callable[[Any], object] | None:
    """What the chain tells of its steps, or `None` where nobody keeps them."""
    return None if reception.history is None else steps.append


def refuse(
    reception: Reception,
    client: Client,
    refused: Refused,
    steps: Sequence[Any],
    *,
    sender: Address | str | None = "",
    recipients: Sequence[Address] = (),
    id: str = "",
    alone: bool = False,
    **fields: object,
) -> Reply:
    """
    The reply of a refusal that policies have decided. The mail log and the history are told of it. `alone`: its account
    is no part of what is told of the message, so that its reference leads to it and to no other.
    """
    reply, ref = refused.reply, ""
    if reception.history is not None:
        ref = reception.refer()
        reply = referred(reply, ref)
        reception.history.decided(
            Decided(steps, client, reply, sender, recipients, refused.policy, refused.because), "" if alone else id, ref
        )
    reception.maillog.event(
        "refused",
        reply=str(reply),
        client=client.address,
        helo=client.helo,
        listener=client.listener,
        user=client.user,
        id=id,
        sender=sender,
        recipient=recipients[0] if recipients else None,
        policy=refused.policy,
        because=refused.because,
        **fields,
    )
    return reply


def refuse_each(
    reception: Reception,
    transaction: Transaction,
    each: Sequence[Refused | None],
    steps: Sequence[Any],
    *,
    id: str = "",
    **fields: object,
) -> list[Reply | None]:
    """
    The replies for those who refuse the message, in the order of RCPT; `None` for who takes it. Each refusal has an
    event and an account of its own, with what was asked about that recipient, and of `steps` all.
    """
    envelope = transaction.envelope
    general: list[Any] = []
    about: dict[Address, list[Any]] = {}
    for step in transaction.steps:
        (general if step.recipient is None else about.setdefault(step.recipient, [])).append(step)
    members: dict[Address, dict[Address, None]] = {}
    for placement in transaction.placements:
        members.setdefault(placement.original, {placement.original: None})[placement.address] = None
    replies: list[Reply | None] = []
    for inquiry, refused in zip(transaction.asked, each, strict=True):
        if refused is None:
            replies.append(None)
            continue
        own = [step for address in members[inquiry.original] for step in about.get(address, ())]
        told = (*general, *own, *steps)
        reply = refuse(
            reception,
            envelope.client,
            refused,
            told,
            sender=envelope.reverse_path,
            recipients=(inquiry.original,),
            id=id,
            alone=True,
            **fields,
        )
        replies.append(reply)
    return replies


def decided(transaction: Transaction, reply: Reply, only: Placement | None) -> Decided:
    """How a message came to be accepted. `only`: its placement, if there is one and no more."""
    envelope, placements = transaction.envelope, transaction.placements
    if only is None:
        return Decided(
            transaction.steps, envelope.client, reply, envelope.reverse_path, transaction.named, placements=placements
        )
    return Decided(
        transaction.steps,
        envelope.client,
        reply,
        envelope.reverse_path,
        (only.original,),
        only.policy,
        only.because,
        placements,
    )
