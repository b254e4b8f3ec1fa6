"""
`value`: a class of values that are made for each message, some of them several times.

To mypy it is `attrs.frozen`, so nobody can change one and pass `make check`. What runs does without the guard, because
that makes an instance three times as costly as one that has none; so it is for what stays among ourselves. What
policies of other people get to see is `frozen` in earnest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    from functools import partial

    from attrs import define

    value = partial(define, unsafe_hash=True)

__all__ = ["value"]
