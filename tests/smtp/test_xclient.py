"""What a host says of its client, attribute by attribute."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relay.mail.reply import Reply
from relay.smtp.xclient import read_attributes


class AttributeTests(SynchronousTestCase):
    def read(self, text: str) -> dict[str, str | None]:
        read = read_attributes(text)
        assert not isinstance(read, Reply), f"{text}: {read}"
        return dict(read)

    def test_each_has_its_canonical_form(self) -> None:
        read = self.read("name=one.test addr=IPv6:2001:DB8:0::1 PORT=0025 Proto=esmtp HELO=[192.0.2.1] LOGIN=j+2Bon")
        self.assertEqual(
            read,
            {
                "NAME": "one.test",
                "ADDR": "2001:db8::1",
                "PORT": "25",
                "PROTO": "ESMTP",
                "HELO": "[192.0.2.1]",
                "LOGIN": "j+on",
            },
        )
        for text, address in (
            ("ADDR=192.0.2.7", "192.0.2.7"),
            ("ADDR=IPV6:::ffff:192.0.2.7", "192.0.2.7"),
            ("ADDR=2001:db8::7", "2001:db8::7"),
        ):
            self.assertEqual(self.read(text), {"ADDR": address})

    def test_what_is_not_known_is_known_not_to_be(self) -> None:
        for nothing in ("[UNAVAILABLE]", "[TEMPUNAVAIL]", "[unavailable]"):
            self.assertEqual(self.read(f"ADDR={nothing} LOGIN={nothing}"), {"ADDR": None, "LOGIN": None})

    def test_what_cannot_be_understood_is_refused_as_a_whole(self) -> None:
        for text in (
            *("", "NAME", "=x", "NAME=", "NAME=a NAME=b", "NAME=a DESTADDR=192.0.2.1", "REVERSE_NAME=a"),
            *("ADDR=one.test", "ADDR=IPV6:192.0.2.1", "ADDR=IPV6:fe80::1%eth0", "ADDR=1.2.3", "ADDR=127.1", "ADDR=1"),
            *("PORT=65536", "PORT=-1", "PORT=\u0661", "PORT=1_0", "PROTO=LMTP", "NAME=a+20b", "HELO=+C3+B6"),
            *("LOGIN=a+0Ab", "LOGIN=a=b", "LOGIN=a+2", "LOGIN=\u00f6", f"HELO={'x' * 256}"),
        ):
            read = read_attributes(text)
            assert isinstance(read, Reply), f"{text}: {read}"
            self.assertEqual((read.code, read.status), (501, "5.5.4"), text)
