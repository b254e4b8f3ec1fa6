"""Where it was measured, and what a server there has used of it."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import frozen

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@frozen
class Stat:
    """What `/proc/PID/stat` says of a process."""

    parent: int
    #: Seconds of CPU of its own, and of those of its children that have ended.
    cpu: float
    #: The latter alone.
    ended: float = 0.0


def parsed(text: str) -> Stat:
    """Of a line of `/proc/PID/stat` (proc(5)). A process's name may contain blanks and parentheses."""
    fields = text.rpartition(")")[2].split()
    parent, own, ended = int(fields[1]), sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return Stat(parent, (own + ended) / _TICKS, ended / _TICKS)


def family(stats: Mapping[int, Stat], roots: Iterable[int]) -> list[int]:
    """These processes and all below them."""
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found, left = list[int](), list(roots)
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, ())
    return found


def used(stats: Mapping[int, Stat], roots: Iterable[int]) -> float:
    """Seconds of CPU that these processes and all below them have used, those included that have ended."""
    return sum(stats[pid].cpu for pid in family(stats, roots))


def used_exactly(stats: Mapping[int, Stat], roots: Iterable[int]) -> float:
    """
    The same, but not in hundredths of a second, of which each process of many loses a part: by the clock of the
    scheduler, where it tells (`/proc/PID/task/TID/schedstat`). Threads that have ended are in the hundredths only.
    """
    return sum(
        max(stats[pid].cpu - stats[pid].ended, _scheduled(pid)) + stats[pid].ended for pid in family(stats, roots)
    )


def _scheduled(pid: int) -> float:
    """Seconds that the threads of a process have run which it has now."""
    nanoseconds = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile, or the kernel does not count
            nanoseconds += int(file.read_text().split()[0])
    return nanoseconds / 1e9


def all_stats() -> dict[int, Stat]:
    """Of all processes."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = parsed((folder / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
    return found


@frozen
class Memory:
    """Octets."""

    #: What is in memory of each process, added up: what processes share is counted for each of them.
    rss: int
    #: The same, but of what is shared each process has its part.
    pss: int


#: Where nobody has looked.
NO_MEMORY: Final = Memory(0, 0)


def memory_of(pids: Iterable[int]) -> Memory:
    """Of all of these together. One that has ended meanwhile has none."""
    rss = pss = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = dict(_kibibytes(rollup))
        rss += found.get("Rss", 0) * 1024
        pss += found.get("Pss", 0) * 1024
    return Memory(rss, pss)


def memory(pid: int) -> int:
    """Octets of a process: its proportional set, in which each page counts that it does not share."""
    found = dict(_kibibytes(Path(f"/proc/{pid}/smaps_rollup").read_text()))
    if "Pss" not in found:
        raise OSError("the kernel does not tell how much memory a process has")
    return found["Pss"] * 1024


def _kibibytes(rollup: str) -> Iterable[tuple[str, int]]:
    """What `/proc/PID/smaps_rollup` says."""
    for line in rollup.splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            yield name, int(rest.split()[0])


def raise_file_limit(needed: int) -> None:
    """
    Let this process, and those that it starts, have so many files and sockets open at once.

    Raises `OSError`, with words for the operator, if they may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
        except (OSError, ValueError):
            raise OSError(
                f"it takes {needed} open files, and a process may have {hard}: raise the limit (ulimit -Hn {needed})"
            ) from None


def described(folder: Path) -> dict[str, Any]:
    """The machine, and the disk on which `folder` is."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": _filesystem(folder),
        "syncs_a_second": round(syncs(folder)),
        "load_before": os.getloadavg()[0],
    }


def sentence(machine: Mapping[str, Any]) -> str:
    return (
        "{cores} cores of {processor}, {memory_gib} GiB, Linux {kernel}, Python {python}, {filesystem} with "
        "{syncs_a_second:,} fdatasync a second".format_map(machine)
        + (f"; the machine was busy before we began (load {machine['load_before']:.1f})" if was_busy(machine) else "")
    )


def was_busy(machine: Mapping[str, Any]) -> bool:
    """Whether it did something else before the run: then most likely in it, too."""
    return bool(machine["load_before"] > machine["cores"] / 4)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """The type of the file system that is mounted nearest above."""
    path = str(folder.resolve()) + "/"
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(len(at), kind) for at, kind in mounts if path.startswith(at.rstrip("/") + "/")]
    kind = max(above)[1] if above else "?"
    return f"{kind} without a journal" if kind == "ext4" and not _has_journal(folder) else kind


def _has_journal(folder: Path) -> bool:
    """Whether the kernel keeps a journal for this ext4; `True` where that cannot be seen."""
    device = Path("/sys/dev/block", "{}:{}".format(*_numbers(folder))).resolve().name
    mounted = Path("/proc/fs/ext4", device).is_dir() and Path("/proc/fs/jbd2").is_dir()
    return not mounted or any(Path("/proc/fs/jbd2").glob(f"{device}-*"))


def _numbers(folder: Path) -> tuple[int, int]:
    device = folder.stat().st_dev
    return os.major(device), os.minor(device)


def syncs(folder: Path, seconds: float = 0.5) -> float:
    """How often a second 4 KiB can be added to a file and made durable."""
    path = folder / "syncs"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            os.write(fd, b"\0" * 4096)
            os.fdatasync(fd)
            done += 1
        return done / (time.perf_counter() - begun)
    finally:
        os.close(fd)
        path.unlink()
