"""Certificates on disk: where they are found, and what the operator is told when something is wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from relay.net.tls_files import Unusable, look, read_certificates
from tests.test_tls import AUTHORITY, ECDSA, TlsTestCase, issue, octets


class FindingTests(TlsTestCase):
    def found(self, *paths: Path) -> list[str]:
        """The first names of the certificates that are found."""
        return [found.names[0] for found in read_certificates(paths)]

    def test_a_file_may_hold_certificate_and_key_in_any_order(self) -> None:
        leaf = issue("a.test", by=AUTHORITY.create_child_ca(key_type=ECDSA))
        key, chain = leaf.private_key_pem.bytes(), [pem.bytes() for pem in leaf.cert_chain_pems]
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        for content in (
            key + b"".join(chain),
            b"".join(chain) + key,
            parameters + key + b"".join(chain),
            b"Some words before\n" + b"".join(reversed(chain)) + key,
        ):
            (found,) = read_certificates([self.file("a.pem", content)])
            self.assertEqual((found.names, len(found.chain)), (("a.test",), 1))

    def test_a_key_may_stand_beside(self) -> None:
        leaf = issue("a.test")
        self.file("a.key", leaf.private_key_pem.bytes())
        for name in ("a.crt", "a.pem", "a.cer"):
            self.assertEqual(self.found(self.file(name, leaf.cert_chain_pems[0].bytes(), 0o644)), ["a.test"])

    def test_the_key_in_a_file_is_nearer_than_one_beside_it(self) -> None:
        path = self.file("a.pem", octets(issue("a.test")))
        self.file("a.key", issue("b.test").private_key_pem.bytes())
        self.assertEqual(self.found(path), ["a.test"])

    def test_what_certbot_writes_is_found(self) -> None:
        for number, name in enumerate(("b.test", "a.test")):
            leaf = issue(name)
            for kind, content in (
                ("privkey", leaf.private_key_pem.bytes()),
                ("cert", leaf.cert_chain_pems[0].bytes()),
                ("chain", AUTHORITY.cert_pem.bytes()),
                ("fullchain", leaf.cert_chain_pems[0].bytes() + AUTHORITY.cert_pem.bytes()),
            ):
                self.file(f"archive/{name}/{kind}{number}.pem", content)
                link = self.folder / "live" / name / f"{kind}.pem"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(f"../../archive/{name}/{kind}{number}.pem")
        self.file("live/README", b"This directory contains your keys and certificates.")
        self.assertEqual(self.found(self.folder / "live"), ["a.test", "b.test"])
        self.assertEqual(self.found(self.folder / "live/b.test"), ["b.test"])
        self.assertEqual(self.found(self.folder / "live/b.test/fullchain.pem"), ["b.test"])

    def test_a_folder_is_all_its_pairs_in_the_order_of_their_names(self) -> None:
        for name in ("c", "a"):
            leaf = issue(f"{name}.test")
            self.file(f"tls/{name}.crt", leaf.cert_chain_pems[0].bytes())
            self.file(f"tls/{name}.key", leaf.private_key_pem.bytes())
        self.file("tls/b.pem", octets(issue("b.test")))
        self.file("tls/authority.crt", AUTHORITY.cert_pem.bytes())
        self.file("tls/.b.pem", octets(issue("hidden.test")))
        self.file("tls/..2026_11_23/b.pem", octets(issue("hidden.too.test")))
        self.file("tls/notes.txt", b"not looked at")
        self.file("tls/loose.key", b"not looked at")
        self.file("tls/d/tls.crt", issue("wrong.test").cert_chain_pems[0].bytes())
        leaf = issue("d.test")
        self.file("tls/d/tls.crt", leaf.cert_chain_pems[0].bytes())
        self.file("tls/d/tls.key", leaf.private_key_pem.bytes())
        self.file("tls/d/e/f.pem", octets(issue("too.deep.test")))
        self.assertEqual(self.found(self.folder / "tls"), ["a.test", "b.test", "c.test", "d.test"])

    def test_paths_are_taken_in_their_order(self) -> None:
        paths = [self.file(f"{name}.pem", octets(issue(f"{name}.test"))) for name in ("b", "a")]
        self.assertEqual(self.found(*paths), ["b.test", "a.test"])

    def test_a_certificate_without_alternative_names_is_for_its_common_name(self) -> None:
        key, crt = self.folder / "o.key", self.folder / "o.crt"
        made = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "9",
            "-subj",
            "/CN=Old.Test",
        ]
        subprocess.run(["openssl", *made, "-keyout", key, "-out", crt], check=True, capture_output=True)
        key.chmod(0o600)
        self.assertEqual(self.found(crt), ["old.test"])


class TroubleTests(TlsTestCase):
    def trouble(self, *paths: Path) -> list[str]:
        """What the operator is told, without the folder."""
        unusable = self.assertRaises(Unusable, read_certificates, paths)
        self.assertIsInstance(unusable, ValueError)
        self.assertEqual(str(unusable), "; ".join(unusable.problems))
        return [problem.replace(f"{self.folder}/", "") for problem in unusable.problems]

    def test_a_key_that_others_can_get_at_is_refused(self) -> None:
        leaf = issue("a.test")
        crt = self.file("a.crt", leaf.cert_chain_pems[0].bytes(), 0o644)
        for mode in (0o604, 0o644, 0o602, 0o601):
            self.file("a.key", leaf.private_key_pem.bytes(), mode)
            self.assertEqual(self.trouble(crt), ["a.key: others can get at this key (chmod o= would mend that)"])
            both = self.file("both.pem", octets(leaf), mode)
            self.assertEqual(self.trouble(both), ["both.pem: others can get at this key (chmod o= would mend that)"])
        for mode in (0o600, 0o640, 0o400):
            self.file("a.key", leaf.private_key_pem.bytes(), mode)
            self.assertEqual(len(read_certificates([crt])), 1)

    def test_what_is_missing_is_named(self) -> None:
        leaf = issue("a.test")
        (self.folder / "empty").mkdir()
        (self.folder / "dangling.pem").symlink_to("nowhere")
        for path, problem in (
            (self.folder / "no.pem", "no.pem: it cannot be read: No such file or directory"),
            (self.folder / "dangling.pem", "dangling.pem: it cannot be read: No such file or directory"),
            (self.folder / ("x" * 300), "x" * 300 + ": it cannot be read: File name too long"),
            (self.folder / "empty", "empty: there is no certificate with its key in this folder"),
            (self.file("key.pem", leaf.private_key_pem.bytes()), "key.pem: there is no certificate in PEM form in it"),
            (
                self.file("alone.crt", leaf.cert_chain_pems[0].bytes()),
                "alone.crt: it has no key, and there is no alone.key beside it",
            ),
            (
                self.file("live/a/fullchain.pem", leaf.cert_chain_pems[0].bytes()).parent,
                "live/a/fullchain.pem: it has no key, and there is no privkey.pem beside it",
            ),
        ):
            with self.subTest(path):
                self.assertEqual(self.trouble(path), [problem])

    def test_what_is_damaged_is_named(self) -> None:
        leaf = issue("a.test")
        crt, key = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
        lines = crt.splitlines(keepends=True)
        damaged = b"".join(lines[:3] + lines[-1:])
        self.file("odd.crt", crt)
        self.file("odd.key", b"words")
        broken = "it is damaged, no certificate can be read from it"
        for content, problem in (
            (damaged + key, broken),
            (crt[:-30] + key, broken),
            (crt + key[:-30], "the key in it is damaged, or it is none"),
            (crt + key[:60] + b"AAAA" + key[64:], "the key in it is damaged, or it is none"),
            (crt + b"x" * 1024 * 1024 + key, "it is too large for a certificate"),
        ):
            with self.subTest(problem):
                self.assertEqual(self.trouble(self.file("a.pem", content)), [f"a.pem: {problem}"])
        self.assertEqual(self.trouble(self.folder / "odd.crt"), ["odd.key: the key in it is damaged, or it is none"])

    def test_a_key_of_another_certificate_is_refused(self) -> None:
        leaf, other = issue("a.test"), issue("b.test")
        both = self.file("both.pem", leaf.cert_chain_pems[0].bytes() + other.private_key_pem.bytes())
        self.assertEqual(self.trouble(both), ["both.pem: the key in it belongs to another certificate"])
        crt = self.file("a.crt", leaf.cert_chain_pems[0].bytes())
        self.file("a.key", other.private_key_pem.bytes())
        self.assertEqual(self.trouble(crt), ["a.crt: the key in a.key belongs to another certificate"])

    def test_a_key_that_needs_somebody_or_something_else_is_refused(self) -> None:
        leaf = issue("a.test")
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        locked = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"sesame"),
        )
        path = self.file("a.pem", leaf.cert_chain_pems[0].bytes() + locked)
        self.assertEqual(self.trouble(path), ["a.pem: the key wants a passphrase, and nobody is there to type it"])
        odd = x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.file("a.pem", leaf.cert_chain_pems[0].bytes() + odd)
        self.assertEqual(self.trouble(path), ["a.pem: the key in it belongs to another certificate"])

    def test_all_that_is_wrong_is_said_at_once(self) -> None:
        good = self.file("good.pem", octets(issue("a.test")))
        self.file("tls/a.pem", octets(issue("a.test")), 0o644)
        self.file("tls/b.pem", octets(issue("b.test"))[:500])
        self.assertEqual(
            self.trouble(self.folder / "no.pem", good, self.folder / "tls"),
            [
                "no.pem: it cannot be read: No such file or directory",
                "tls/a.pem: others can get at this key (chmod o= would mend that)",
                "tls/b.pem: it is damaged, no certificate can be read from it",
            ],
        )

    def test_nobody_waits_for_a_pipe(self) -> None:
        os.mkfifo(self.folder / "pipe.pem", 0o600)
        self.assertEqual(self.trouble(self.folder / "pipe.pem"), ["pipe.pem: it is no ordinary file"])
        self.assertEqual(self.trouble(self.folder), ["pipe.pem: it is no ordinary file"])

    def test_what_appears_and_what_goes_is_seen_without_reading(self) -> None:
        paths = [self.folder / "a.crt", self.folder / "live"]
        self.assertEqual(look([self.folder / ("x" * 300)]), ((str(self.folder / ("x" * 300)), None),))
        seen = {look(paths)}
        for name in ("a.crt", "a.key", "live/a/fullchain.pem", "live/a/privkey.pem", "live/b.pem"):
            path = self.file(name, b"")
            self.assertNotIn(look(paths), seen)
            seen.add(look(paths))
        path.chmod(0o400)
        self.assertNotIn(look(paths), seen)
        seen.add(look(paths))
        path.unlink()
        self.assertIn(look(paths), seen)
        self.file("live/README", b"")
        self.assertIn(look(paths), seen)
