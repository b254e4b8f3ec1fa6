"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource


def room_for(descriptors: int) -> int:
    """
    See to it that so many can be open at once, as far as the machine lets us, and answer with how many can.

    Shells and service managers give a process a soft limit that is far below the hard one, which anybody may raise.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    wanted = int(min(descriptors, most))
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return descriptors if soft == resource.RLIM_INFINITY else soft
