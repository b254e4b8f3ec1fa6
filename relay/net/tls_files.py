"""
Certificates on disk: where they and their keys are found, and what is wrong with them in words for the operator.

A path is a file or a folder. A file holds a certificate and what leads from it to an authority, in PEM form; its key
stands in the same file, or beside it as `NAME.key`, or as `privkey.pem` beside `fullchain.pem`. A folder stands for all
such pairs in it and in the folders in it, in the order of their names: `/etc/letsencrypt/live` is one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from relay.net.tls import alternative_names, subject_of

_SUFFIXES: Final = (".pem", ".crt", ".cer")
#: No certificate with its chain comes near to this.
_LARGEST: Final = 1024 * 1024
#: What certbot and others call a chain and its key.
_CHAIN, _KEY_OF_CHAIN = "fullchain.pem", "privkey.pem"

#: What may have changed about the files that were looked at; two of them are compared and nothing else.
Look: TypeAlias = tuple[tuple[str, tuple[int, ...] | None], ...]


class Unusable(ValueError):
    """Certificates that cannot be used. It says of each what is wrong with it."""

    problems: tuple[str, ...]

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


@frozen(eq=False)
class Certificate:
    """A certificate that a listener can show, with its key."""

    file: Path
    leaf: x509.Certificate
    #: What leads from it to an authority.
    chain: tuple[x509.Certificate, ...]
    key: Any = field(repr=False)
    #: The host names that it is for, in lower case; one may begin with `*.`.
    names: tuple[str, ...]
    #: Seconds since the epoch.
    expires: float


def read_certificates(paths: Sequence[Path]) -> tuple[Certificate, ...]:
    """All certificates there, in the order of the paths. Raises `Unusable` with all that is wrong."""
    certificates, problems = [], []
    for path in paths:
        try:
            pairs = list(_pairs(path))
        except OSError as error:
            problems.append(f"{error.filename or path}: {_said(error)}")
            continue
        if not pairs:
            problems.append(f"{path}: there is no certificate with its key in this folder")
        for file, key in pairs:
            try:
                certificates.append(_certificate(file, key))
            except Unusable as unusable:
                problems.extend(unusable.problems)
    if problems:
        raise Unusable(problems)
    return tuple(certificates)


def read_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of authorities in a file of PEM form. Raises `Unusable`."""
    return _chain(path, _read(path)[0])


def look(paths: Iterable[Path]) -> Look:
    """What could tell that something there has changed, by system calls that read no file."""
    files: list[Path] = []
    for path in paths:
        try:
            files.extend(_candidates(path) if path.is_dir() else (path, *_keys_beside(path)))
        except OSError:  # reading it will say why
            files.append(path)
    return tuple((str(file), _traits(file)) for file in files)


def _traits(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    # The time of the last change of its mode is among them: a key that was readable by others no longer is.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _pairs(path: Path) -> Iterator[tuple[Path, Path | None]]:
    """Certificates, and the files of their keys where they have one of their own."""
    if not path.is_dir():
        yield path, next((key for key in _keys_beside(path) if key.exists()), None)
        return
    for file in _candidates(path):
        if file.suffix not in _SUFFIXES:
            continue
        beside = next((key for key in _keys_beside(file) if key.exists()), None)
        # A file without a key is no pair (`chain.pem`), unless its name says that it is half of one.
        if beside is not None or file.name == _CHAIN or _is_pair_in_one(file):
            yield file, beside


def _candidates(folder: Path) -> Iterator[Path]:
    """The files of a folder and of the folders in it that may be certificates or keys, in the order of their names."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from (file for file in sorted(entry.iterdir()) if _may_count(file))
        elif _may_count(entry):
            yield entry


def _may_count(file: Path) -> bool:
    return file.suffix in (*_SUFFIXES, ".key") and not file.name.startswith(".") and not file.is_dir()


def _keys_beside(file: Path) -> tuple[Path, ...]:
    beside = file.with_suffix(".key")
    return (beside, file.with_name(_KEY_OF_CHAIN)) if file.name == _CHAIN else (beside,)


def _is_pair_in_one(file: Path) -> bool:
    try:
        octets, _ = _read(file)
    except Unusable:  # it may be one, so it is for `_certificate` to say
        return True
    return _has_key(octets) and _has_certificate(octets)


def _has_key(octets: bytes) -> bool:
    return b"PRIVATE KEY-----" in octets


def _has_certificate(octets: bytes) -> bool:
    return b"-----BEGIN CERTIFICATE-----" in octets


def _certificate(file: Path, key_file: Path | None) -> Certificate:
    octets, mode = _read(file)
    certificates = _chain(file, octets)
    if _has_key(octets):
        key_file, secret = file, octets
    elif key_file is None:
        wanted = _keys_beside(file)[-1].name
        raise Unusable([f"{file}: it has no key, and there is no {wanted} beside it"])
    else:
        secret, mode = _read(key_file)
    # RELIABILITY: a key that others can read is refused; so is one that others could replace.
    if mode & stat.S_IRWXO:
        raise Unusable([f"{key_file}: others can get at this key (chmod o= would mend that)"])
    key = _key(key_file, secret)
    try:
        leaf = next((one for one in certificates if one.public_key() == key.public_key()), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable([f"{file}: {error}"]) from error
    if leaf is None:
        where = "in it" if key_file == file else f"in {key_file}"
        raise Unusable([f"{file}: the key {where} belongs to another certificate"])
    chain = tuple(one for one in certificates if one is not leaf)
    return Certificate(file, leaf, chain, key, _names(leaf), leaf.not_valid_after_utc.timestamp())


def _chain(file: Path, octets: bytes) -> tuple[x509.Certificate, ...]:
    if not _has_certificate(octets):
        raise Unusable([f"{file}: there is no certificate in PEM form in it"])
    try:
        return tuple(x509.load_pem_x509_certificates(octets))
    except ValueError as error:
        raise Unusable([f"{file}: it is damaged, no certificate can be read from it"]) from error


def _key(file: Path, octets: bytes) -> Any:
    try:
        return serialization.load_pem_private_key(octets, password=None)
    except TypeError as error:
        raise Unusable([f"{file}: the key wants a passphrase, and nobody is there to type it"]) from error
    except UnsupportedAlgorithm as error:
        raise Unusable([f"{file}: the key is of a kind that is not supported"]) from error
    except ValueError as error:
        raise Unusable([f"{file}: the key in it is damaged, or it is none"]) from error


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    hosts, _ = alternative_names(leaf)
    common_name = subject_of(leaf).common_name
    return tuple(name.lower().removesuffix(".") for name in hosts or filter(None, [common_name]))


def _read(file: Path) -> tuple[bytes, int]:
    """A file's octets, and the mode of that very file. Raises `Unusable`."""
    try:
        # It does not wait for the other end of a pipe.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unusable([f"{file}: it is no ordinary file"])
            octets = opened.read(_LARGEST + 1)
    except OSError as error:
        raise Unusable([f"{file}: {_said(error)}"]) from error
    if len(octets) > _LARGEST:
        raise Unusable([f"{file}: it is too large for a certificate"])
    return octets, found.st_mode


def _said(error: OSError) -> str:
    return f"it cannot be read: {error.strerror}"
