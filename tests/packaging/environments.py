"""
Clean virtual environments, made in a second and without asking an index.

What the relay depends on is taken from the environment that runs the tests, file by file as its
records list them, so the clean ones hold the very releases that everything else was tested with, and
nothing of the relay. They are made under a folder with a space in its name, and nothing is ever
written into the repository.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from unittest import addModuleCleanup

from attrs import frozen
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]


def end(workshop: Path) -> None:
    """Remove everything that was made, and forget it."""
    for made in build_tools, dependencies, repository_copy, wheel:
        made.cache_clear()
    shutil.rmtree(workshop)


def begin() -> Path:
    """Call it in `setUpModule`: everything is made in a folder that goes away with the module."""
    global workshop
    workshop = Path(tempfile.mkdtemp(prefix="relay packaging "))
    addModuleCleanup(end, workshop)
    return workshop


workshop = Path()


@cache
def repository_copy() -> Path:
    """What a clone of the repository would have if everything here were committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    copy = workshop / "a clone"
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
    return copy


def requirements() -> list[Requirement]:
    """What setup.cfg says that the relay needs to run."""
    declared = ConfigParser()
    declared.read(REPOSITORY / "setup.cfg")
    return [Requirement(line) for line in declared["options"]["install_requires"].split("\n") if line]


def with_what_they_need(wanted: list[Requirement]) -> dict[str, Distribution]:
    """The installed distributions that satisfy `wanted`, and those that they need in turn, by name."""
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        needed = distribution(requirement.name)
        found[re.sub(r"[-_.]+", "-", requirement.name).lower()] = needed
        extras = {"", *requirement.extras}
        wanted.extend(
            further
            for further in map(Requirement, needed.requires or ())
            if not further.marker or any(further.marker.evaluate({"extra": extra}) for extra in extras)
        )
    return found


def gather(wanted: list[Requirement], folder: Path) -> Path:
    """Copy what satisfies `wanted` into `folder`, as it lies in site-packages."""
    for needed in with_what_they_need(wanted).values():
        for file in needed.files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():  # `..` leads to scripts and manual pages
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / file)
    return folder


@cache
def dependencies() -> Path:
    return gather(requirements(), workshop / "dependencies")


@cache
def build_tools() -> Path:
    return gather([Requirement("setuptools")], workshop / "build tools")


def environ(**more: str | Path) -> dict[str, str]:
    """The variables that a program needs to run, none that tells Python or pip where to look, and `more`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    return {**ours, "HOME": str(workshop), **{name: str(value) for name, value in more.items()}}


@frozen
class Ran:
    """How a program ended."""

    status: int
    stdout: str
    stderr: str


@frozen
class Environment:
    """A virtual environment in `folder`, with Twisted and all else that the relay needs, but no relay yet."""

    folder: Path

    @classmethod
    def make(cls, name: str) -> Environment:
        self = cls(workshop / f"{name} environment")
        venv.EnvBuilder(symlinks=True).create(self.folder)
        shutil.copytree(dependencies(), self.packages, copy_function=os.link, dirs_exist_ok=True)
        # The script that pip would have made, run as `bin/python bin/twistd`: the folder `bin` is the first
        # on its path, and not the folder that one stands in.
        (self.bin / "twistd").write_text("from twisted.scripts.twistd import run\nrun()\n")
        return self

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def packages(self) -> Path:
        [found] = self.folder.glob("lib/python3*/site-packages")
        return found

    def run(self, *command: str | Path, cwd: Path | None = None, **variables: str | Path) -> Ran:
        """Run a command of this environment, by its name in `bin`, away from the repository."""
        ran = subprocess.run(
            [str(self.bin / command[0]), *map(str, command[1:])],
            cwd=cwd or self.folder,
            env=environ(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def twistd(self, *words: str | Path, cwd: Path | None = None, **variables: str | Path) -> Ran:
        return self.run("python", self.bin / "twistd", *words, cwd=cwd, **variables)

    def pip(self, *words: str | Path) -> None:
        """pip of the environment that runs the tests, working on this one and asking no index."""
        run_tool("pip", "--disable-pip-version-check", "--python", self.bin / "python", *words)

    def install(self, *what: str | Path) -> None:
        self.pip("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", *what)

    def commands_of_twistd(self, cwd: Path | None = None, **variables: str | Path) -> Iterator[str]:
        """The names that `twistd --help` lists below `Commands:`."""
        _, _, listed = self.twistd("--help", cwd=cwd, **variables).stdout.partition("Commands:\n")
        for line in listed.splitlines():
            if re.match(r"    \w", line):
                yield line.split()[0]


def run_tool(module: str, *words: str | Path) -> None:
    """Run a module of the environment that runs the tests; the clean environments' Pythons find setuptools."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=workshop,
        env=environ(PYTHONPATH=build_tools()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    if ran.returncode:
        raise AssertionError(f"{module} {words} ended with {ran.returncode}:\n{ran.stdout}")


@cache
def wheel() -> Path:
    """The wheel, built from the source distribution, so that one is complete as well."""
    run_tool("build", "--no-isolation", "--outdir", workshop / "dist", repository_copy())
    [built] = (workshop / "dist").glob("*.whl")
    return built
