"""The relay as it was in another revision, to be measured beside the one of this tree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

#: The repository of this file.
HERE: Final = Path(__file__).parents[1]


@frozen
class Tree:
    """Where a relay's files are, and what the report calls it."""

    path: Path
    name: str


#: As it is now, with what was not committed.
OURS: Final = Tree(HERE, "relay")


def revision(path: Path) -> str:
    """Which commit a tree's relay is, and whether there is more in it. "unknown" where git does not know."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=path, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=7", "HEAD")
    changed = git("status", "--porcelain", "--", "relay", "bench", "twisted")
    return f"{commit or 'unknown'}{', with changes' if changed else ''}"


@contextmanager
def checked_out(revision: str, folder: Path, repository: Path = HERE) -> Iterator[Tree]:
    """A revision in a folder of its own, which is removed in the end. `ValueError` if git has none of this name."""

    def git(*words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=repository, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ValueError(f"git has not found '{revision}': {ran.stderr.strip()}")
        return ran.stdout.strip()

    found = git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}")
    path = folder / f"relay-{found}"
    git("worktree", "add", "--detach", str(path), found)
    try:
        yield Tree(path, f"relay@{found}")
    finally:
        git("worktree", "remove", "--force", str(path))
