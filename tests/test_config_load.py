from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Inet, Unix
from relay.config.errors import ConfigurationError, Problem
from relay.config.load import decode, load
from relay.config.settings import Settings
from relay.config.wording import did_you_mean
from tests.config_options import MODELS

BASE = Path("/etc/relay")


def option_model(use: str) -> type[BaseModel] | None:
    if use == "broken.module:Policy":
        raise ValueError("the policy 'broken' cannot be loaded:\nit is broken")
    return MODELS.get(use)


def settings(text: str, **how: Any) -> Settings:
    return load(
        text,
        **{
            "file": "relay.toml",
            "base": BASE,
            "hostname": "Mail.Example.ORG",
            "user": "ann",
            "option_model": option_model,
            "known": lambda: MODELS,
            **how,
        },
    )


def problems(text: str, **how: Any) -> list[str]:
    try:
        settings(text, **how)
    except ConfigurationError as error:
        return str(error).split("\n")
    return []


#: Each text, and what is said about it. Lines count from 1, and each text begins with a line end.
WRONG: dict[str, tuple[str, list[str]]] = {
    "a misspelt option of the second policy": (
        """
[[policy]]
use = "reject"

[[policy]]
use = "mailbox"
domians = ["example.org"]
domains = ["example.org"]
directory = "mail"
""",
        ["relay.toml:7: policy.2.domians: unknown key, did you mean 'domains'?"],
    ),
    "a misspelt common key of a policy": (
        '\n[[policy]]\nuse = "reject"\nwhen.cleint = ["::1"]\ntiemout = 3\n',
        [
            "relay.toml:4: policy.1.when.cleint: unknown key, did you mean 'client'?",
            "relay.toml:5: policy.1.tiemout: unknown key, did you mean 'timeout'?",
        ],
    ),
    "a policy that does not exist": (
        '\n[[policy]]\nuse = "mailbax"\n',
        ["relay.toml:3: policy.1.use: unknown policy, did you mean 'mailbox'?"],
    ),
    "a policy that is like no other": (
        '\n[[policy]]\nuse = "xyzzy"\n',
        ["relay.toml:3: policy.1.use: unknown policy; there are 'alias', 'console', 'mailbox', 'picky', 'reject'"],
    ),
    "a policy whose module cannot be imported": (
        '\n[[policy]]\nuse = "broken.module:Policy"\n',
        ["relay.toml:3: policy.1.use: the policy 'broken' cannot be loaded: it is broken"],
    ),
    "a policy that says not what it does": ('\n[[policy]]\nname = "x"\n', ["relay.toml:2: policy.1.use: is missing"]),
    "an option that is needed": (
        '\n[[policy]]\nuse = "mailbox"\ndirectory = "mail"\n',
        ["relay.toml:2: policy.1.domains: is missing"],
    ),
    "an option that none of its alternatives fits": (
        '\n[[policy]]\nuse = "mailbox"\ndomains = ["a"]\ndirectory = "m"\nusers = 3\n',
        ["relay.toml:6: policy.1.users: should be 'system' or 'any', or a list, or a path"],
    ),
    "an entry of a list, with its own line": (
        '\n[[policy]]\nuse = "mailbox"\ndomains = ["a"]\ndirectory = "m"\nusers = [\n  "jon",\n  3,\n]\n',
        ["relay.toml:8: policy.1.users.2: should be a string"],
    ),
    "an option's own check": (
        '\n[[policy]]\nuse = "picky"\nnumber = 4\n',
        ["relay.toml:4: policy.1.number: should be odd"],
    ),
    "options that do not go together": (
        '\n[[policy]]\nuse = "picky"\nnumber = 5\nother = 7\n',
        ["relay.toml:2: policy.1: 'number' and 'other' should be the same"],
    ),
    "a check of options that fails itself": (
        '\n[[policy]]\nuse = "picky"\nnumber = 13\n',
        ["relay.toml:2: policy.1: the options cannot be checked: KeyError: 'unlucky'"],
    ),
    "a key of a table of addresses": (
        '\n[[policy]]\nuse = "alias"\n[policy.table]\n"a@b" = ["c@d"]\n"e@$hostname" = [\n1]\n',
        ['relay.toml:7: policy.1.table."e@mail.example.org".1: should be a string'],
    ),
    "two policies of one name": (
        '\n[[policy]]\nname = "x"\nuse = "reject"\n[[policy]]\nuse = "reject"\nname = "x"\n',
        ["relay.toml:7: policy.2.name: another policy has this name"],
    ),
    "a name of two words": (
        '\n[[policy]]\nname = "x y"\nuse = "reject"\n',
        ["relay.toml:3: policy.1.name: should be one word, without blanks and quotes"],
    ),
    "shadow mode": (
        '\n[[policy]]\nuse = "reject"\nmode = "shadow"\n',
        ["relay.toml:4: policy.1.mode: 'shadow' is not built yet"],
    ),
    "a mode that does not exist": (
        '\n[[policy]]\nuse = "reject"\nmode = "of"\n',
        ["relay.toml:4: policy.1.mode: should be 'enforce', 'shadow' or 'off', did you mean 'off'?"],
    ),
    "a single bracket": (
        '\n[policy]\nuse = "reject"\n',
        ["relay.toml:2: policy: should be a list of tables: write [[policy]]"],
    ),
    "a double bracket": ('\n[[spool]]\npath = "x"\n', ["relay.toml:2: spool: should be a table: write [spool]"]),
    "a double bracket within": (
        "\n[[delivery.retry]]\nfactor = 2\n[[policy]]\nuse = 'reject'\n[[policy.when]]\nauthenticated = true\n",
        [
            "relay.toml:2: delivery.retry: should be a table",
            "relay.toml:6: policy.1.when: should be a table",
        ],
    ),
    "a table where a list should be": ("\n[trusted]\nx = 1\n", ["relay.toml:2: trusted: should be a list"]),
    "a factor that is none": (
        "\n[delivery.retry]\nfactor = 0.5\njitter = 1\n",
        [
            "relay.toml:3: delivery.retry.factor: should be at least 1",
            "relay.toml:4: delivery.retry.jitter: should be less than 1",
        ],
    ),
    "policies that are no tables": ("\npolicy = [1]\n", ["relay.toml:2: policy.1: should be a table"]),
    "a misspelt table": ("\n[limit]\nerrors = 3\n", ["relay.toml:2: limit: unknown key, did you mean 'limits'?"]),
    "a key that is like no other": ("\nxyzzy = 1\n", ["relay.toml:2: xyzzy: unknown key"]),
    "a key of the relay's own below a table": (
        '\n[spool]\npath = "x"\n\ntrusted = ["::1"]\n',
        [
            "relay.toml:5: spool.trusted: unknown key; 'trusted' belongs to the top of the file, before the first "
            "[table]"
        ],
    ),
    "a key of the relay's own below a policy that has one like it": (
        '\n[[policy]]\nuse = "reject"\ntrusted = ["::1"]\n',
        [
            "relay.toml:4: policy.1.trusted: unknown key; 'trusted' belongs to the top of the file, before the first "
            "[table]"
        ],
    ),
    "a key of the relay's own below a policy": (
        '\n[[policy]]\nuse = "reject"\ngreeting = "x"\n',
        [
            "relay.toml:4: policy.1.greeting: unknown key; 'greeting' belongs to the top of the file, before the first "
            "[table]"
        ],
    ),
    "too few recipients": (
        "\n[limits]\nrecipients = 99\n",
        ["relay.toml:3: limits.recipients: should be at least 100"],
    ),
    "a number in quotes": ('\n[limits]\nerrors = "20"\n', ["relay.toml:3: limits.errors: should be a whole number"]),
    "a boolean for a number": (
        "\n[limits]\nerrors = true\n",
        ["relay.toml:3: limits.errors: should be a whole number"],
    ),
    "a part of a number": ("\n[limits]\nerrors = 2.5\n", ["relay.toml:3: limits.errors: should be a whole number"]),
    "less than one": ("\n[limits]\nerrors = 0\n", ["relay.toml:3: limits.errors: should be at least 1"]),
    "a unit that means two things": (
        '\n[limits]\nmessage = "25 MB"\n',
        ["relay.toml:3: limits.message: 'MB' is no unit, did you mean 'MiB'?"],
    ),
    "a message that is no message": (
        '\n[limits]\nmessage = "1 KiB"\n',
        ["relay.toml:3: limits.message: should be at least 64 KiB"],
    ),
    "no duration": (
        '\n[limits]\nidle = "soon"\n',
        ["relay.toml:3: limits.idle: should be a duration such as '30s', '5m', '4h' or '5d', or a number of seconds"],
    ),
    "a wait of weeks": ('\n[limits]\nidle = "20d"\n', ["relay.toml:3: limits.idle: should be at most 1d"]),
    "limits that contradict each other": (
        '\n[limits]\nerrors = 3\n[dns]\nserver_timeout = 30\n[delivery]\nretry = {first = "5h"}\n',
        [
            "relay.toml:2: limits: 'errors_slow' should not be more than 'errors'",
            "relay.toml:4: dns: 'server_timeout' should not be longer than 'timeout'",
            "relay.toml:7: delivery.retry: 'first' should not be longer than 'most'",
        ],
    ),
    "a database server": (
        '\n[spool]\nengine = "postgresql://db/relay"\n',
        ["relay.toml:3: spool.engine: PostgreSQL is not built yet; there are 'sqlite' and 'memory'"],
    ),
    "a spool that does not exist": (
        '\n[spool]\nengine = "sqlit"\n',
        ["relay.toml:3: spool.engine: should be 'sqlite' or 'memory', did you mean 'sqlite'?"],
    ),
    "no path": ('\n[spool]\npath = ""\n', ["relay.toml:3: spool.path: should be a path"]),
    "a listener without an address": ('\n[[listener]]\nname = "x"\n', ["relay.toml:2: listener.1.address: is missing"]),
    "an address that is none": (
        '\n[[listener]]\naddress = "localhost:25"\n',
        [
            "relay.toml:3: listener.1.address: should be like '127.0.0.1:2525', '[::1]:2525', '[::]:25' (everywhere), "
            "'unix:/path' or 'systemd:name'"
        ],
    ),
    "lenient line ends for strangers": (
        '\n[[listener]]\nnewlines = "lenient"\naddress = "0.0.0.0:25"\n',
        ["relay.toml:3: listener.1.newlines: 'lenient' is for loopback addresses and Unix sockets only"],
    ),
    "submission without TLS": (
        '\n[[listener]]\naddress = "[::]:587"\nprotocol = "submission"\n[auth]\npasswords = "users"\n',
        [
            "relay.toml:4: listener.1.protocol: 'submission' needs 'tls': people prove who they are, and that is not "
            "offered without",
            "relay.toml:6: auth.passwords: nobody would ever be asked: AUTH is not offered without TLS, and no "
            "listener has 'tls'",
        ],
    ),
    "submission without users": (
        '\n[[listener]]\naddress = "[::]:587"\ntls = "require"\nprotocol = "submission"\n',
        [
            "relay.toml:5: listener.1.protocol: 'submission' needs users: set 'passwords', 'dovecot' or 'checker' in "
            "[auth], or 'client_authorities' here",
        ],
    ),
    "submission by certificate alone, which nobody is asked for": (
        '\nauth.mechanisms = ["PLAIN"]\n[[listener]]\naddress = "[::]:587"\ntls = "require"\n'
        'protocol = "submission"\nclient_authorities = "ca.pem"\n',
        [
            "relay.toml:6: listener.1.protocol: 'submission' needs users: set 'passwords', 'dovecot' or 'checker' in "
            "[auth], or 'client_authorities' here",
        ],
    ),
    "submission without AUTH": (
        '\nauth.passwords = "users"\n[[listener]]\naddress = "[::]:465"\ntls = "implicit"\n'
        'protocol = "submission"\nwithout = ["AUTH"]\n',
        ["relay.toml:7: listener.1.without: 'submission' needs AUTH (RFC 6409 section 4.3)"],
    ),
    "LMTP where SMTP is expected": (
        '\n[[listener]]\naddress = "[::]:25"\nprotocol = "lmtp"\nwithout = ["PIPELINING"]\n',
        [
            "relay.toml:3: listener.1.address: port 25 is SMTP's: LMTP has to be elsewhere (RFC 2033 section 5)",
            "relay.toml:5: listener.1.without: 'lmtp' needs PIPELINING (RFC 2033 section 5)",
        ],
    ),
    "how TLS is spoken where it is not": (
        '\n[[listener]]\naddress = "[::]:25"\nminimum_tls = "1.3"\nclient_authorities = "ca.pem"\n',
        [
            "relay.toml:4: listener.1.minimum_tls: means nothing here: the listener's 'tls' is \"none\"",
            "relay.toml:5: listener.1.client_authorities: means nothing here: the listener's 'tls' is \"none\"",
        ],
    ),
    "a version of TLS that nobody should speak": (
        '\n[[listener]]\naddress = "[::]:25"\ntls = "offer"\nminimum_tls = "SSLv3"\n',
        ["relay.toml:5: listener.1.minimum_tls: should be '1.2' or '1.3'"],
    ),
    "binary mail in lines": (
        '\n[[listener]]\naddress = "[::]:25"\nalso = ["BINARYMIME"]\nwithout = ["CHUNKING"]\n',
        ["relay.toml:4: listener.1.also: BINARYMIME may not be offered without CHUNKING (RFC 3030 section 3)"],
    ),
    "an extension that is none": (
        '\n[[listener]]\naddress = "[::]:25"\nalso = ["CHUNKING"]\n',
        ["relay.toml:4: listener.1.also.1: should be 'BINARYMIME'"],
    ),
    "two who know the users": (
        '\n[auth]\npasswords = "users"\ndovecot = "/run/dovecot/auth-client"\n',
        ["relay.toml:2: auth: should have one source of users, not both 'passwords' and 'dovecot'"],
    ),
    "mechanisms that the source of users cannot have": (
        '\n[auth]\ndovecot = "/run/dovecot/auth-client"\nmechanisms = ["SCRAM-SHA-256"]\n',
        ["relay.toml:4: auth.mechanisms: 'dovecot' knows PLAIN and LOGIN only"],
    ),
    "a mechanism that shows the password to whoever asks": (
        '\n[auth]\nmechanisms = ["CRAM-MD5"]\n',
        [
            "relay.toml:3: auth.mechanisms.1: should be 'EXTERNAL', 'SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256', 'PLAIN' or "
            "'LOGIN'"
        ],
    ),
    "a checker that is no place": (
        '\n[auth]\nchecker = "checker.py"\n',
        ["relay.toml:3: auth.checker: should be like 'package.module:Name'"],
    ),
    "a history in the spool": (
        '\n[spool]\npath = "spool"\n[history]\npath = "x/../spool/spool.db"\n',
        ["relay.toml:5: history.path: is within the spool, where nothing else may be: say another file"],
    ),
    "a history and a list that are the spool": (
        '\nspool.path = "/var/spool/relay"\nhistory.path = "/var/spool/relay"\n'
        'suppression = {keep = true, path = "/var/spool/relay/content/x"}\n',
        [
            "relay.toml:3: history.path: is within the spool, where nothing else may be: say another file",
            "relay.toml:4: suppression.path: is within the spool, where nothing else may be: say another file",
        ],
    ),
    "files that are one": (
        '\nlog.mail = "one"\nauth.passwords = "two"\ncontrol.socket = "three"\n[suppression]\nkeep = true\n'
        'path = "two"\n[history]\npath = "one"\n',
        [
            "relay.toml:7: suppression.path: is the file of passwords: say another file",
            "relay.toml:9: history.path: is the mail log: say another file",
        ],
    ),
    "a history that is the list": (
        '\nsuppression = {keep = true}\nhistory.path = "var/suppressed"\n',
        ["relay.toml:3: history.path: is the suppression list: say another file"],
    ),
    "a mail log where the history is unless something is said": (
        '\nlog.mail = "var/history.db"\n',
        ["relay.toml:1: history.path: is the mail log: say another file"],
    ),
    "a history where the control socket is": (
        '\nhistory.path = "var/control.sock"\n',
        ["relay.toml:2: history.path: is the control socket: say another file"],
    ),
    "two listeners of one name": (
        '\n[[listener]]\nname = "x"\naddress = "[::1]:25"\n[[listener]]\nname = "x"\naddress = "[::1]:26"\n',
        ["relay.toml:6: listener.2.name: another listener has this name"],
    ),
    "two listeners at one address": (
        '\n[[listener]]\naddress = "[::1]:25"\n[[listener]]\naddress = "[0::1]:25"\n',
        ["relay.toml:5: listener.2.address: another listener has this address"],
    ),
    "a condition for a listener that there is not": (
        '\n[[listener]]\nname = "local"\naddress = "[::1]:25"\n[[policy]]\nuse = "reject"\n'
        'when = { listener = ["local", "locl"] }\n',
        ["relay.toml:7: policy.1.when.listener.2: unknown listener, did you mean 'local'?"],
    ),
    "a condition that nothing can meet": (
        '\n[[policy]]\nuse = "reject"\nwhen.client = []\n',
        ["relay.toml:4: policy.1.when.client: should have at least 1 entry"],
    ),
    "a network with the address of a host": (
        '\ntrusted = ["10.0.0.1/8", "10.0.0.0/33", 10]\n',
        [
            "relay.toml:2: trusted.1: is an address within a network, did you mean '10.0.0.0/8'?",
            "relay.toml:2: trusted.2: should be a network such as '10.0.0.0/8' or '2001:db8::/32', or one address",
            "relay.toml:2: trusted.3: should be a string",
        ],
    ),
    "domains and addresses that are none": (
        '\n[[policy]]\nuse = "reject"\nwhen.sender = ["a@b@c", "-x"]\nwhen.recipient = ["a b"]\n',
        [
            "relay.toml:4: policy.1.when.sender.1: there is more than one @",
            "relay.toml:4: policy.1.when.sender.2: the domain is malformed",
            "relay.toml:5: policy.1.when.recipient.1: the domain has characters that no domain has",
        ],
    ),
    "a host name that is none": (
        '\nhostname = "$hostname"\n',
        ["relay.toml:2: hostname: the domain has characters that no domain has"],
    ),
    "a host name that is an address": (
        '\nhostname = "[192.0.2.1]"\n',
        ["relay.toml:2: hostname: should be a name, not an address"],
    ),
    "a greeting of two lines": (
        '\ngreeting = "a\\nb"\n',
        ["relay.toml:2: greeting: should be one line of printable ASCII"],
    ),
    "a word that stands for nothing": (
        '\n[[policy]]\nuse = "reject"\ntext = "$hostnme"\n',
        ["relay.toml:4: policy.1.text: unknown word behind a dollar sign, did you mean '$hostname'?"],
    ),
    "a password that has a dollar sign, which is not shown": (
        '\n[[policy]]\nuse = "reject"\ntext = "hush$xyzzy"\n',
        [
            "relay.toml:4: policy.1.text: unknown word behind a dollar sign: there are $hostname and $user; for the "
            "sign itself write '$$'"
        ],
    ),
    "a key that is there twice once its word is replaced": (
        '\n[[policy]]\nuse = "alias"\ntable = {"a@mail.example.org" = [], "a@$hostname" = []}\n',
        ['relay.toml:4: policy.1.table."a@mail.example.org": stands here twice, once it is spelled out'],
    ),
    "no TOML": (
        "\n[spool]\npath 3\n",
        ["relay.toml:3: this is not TOML: expected '=' after a key in a key/value pair"],
    ),
    "a string that is not closed": (
        '\nhostname = "mx.example.org\ntrusted = ["::1"]\n',
        [
            "relay.toml:2: this is not TOML: a string is not closed: it ends in its line, with the quote with which it "
            "begins, or with three if it begins with three"
        ],
    ),
    "no TOML at the very end": (
        "\n[spool]\npath = [\n\n",
        ["relay.toml:5: this is not TOML: invalid value"],
    ),
    "a key that is there twice": (
        "\n[limits]\nerrors = 3\nerrors = 4\n",
        ["relay.toml:4: what is set here has been set before"],
    ),
    "a table that is there twice": (
        "\n[limits]\n[spool]\n[limits]\n",
        ["relay.toml:4: what is set here has been set before"],
    ),
    "values within values within values": (
        "\nx = " + "[" * 5000 + "]" * 5000,
        ["relay.toml:1: values within values are nested too deep"],
    ),
}


class WrongTests(SynchronousTestCase):
    def test_letters_in_the_wrong_order_are_nearer_than_other_letters(self) -> None:
        self.assertEqual(did_you_mean("dnslb", ["dnswl", "dnsbl"]), ", did you mean 'dnsbl'?")
        self.assertEqual(did_you_mean("dnswl", ["dnsbl", "dnswl"]), ", did you mean 'dnswl'?")

    def test_each_is_said_with_its_line_and_key(self) -> None:
        self.maxDiff = None
        found = {name: problems(text) for name, (text, _) in WRONG.items()}
        differing = [name for name, (_, said) in WRONG.items() if found[name] != said]
        self.assertEqual({name: found[name] for name in differing}, {name: WRONG[name][1] for name in differing})

    def test_all_are_said_at_once_in_the_order_of_the_lines(self) -> None:
        text = """hostname = 3
[[policy]]
use = "mailbox"
domians = ["example.org"]
when = { listener = ["nowhere"] }
[[listener]]
address = "*:25"
prot = "smtp"
[[policy]]
use = "mailbax"
mode = "shadow"
[limits]
recipients = 5
idle = "$long"
"""
        self.assertEqual(
            [problem.partition(": ")[0] + " " + problem.split(": ")[1] for problem in problems(text)],
            [
                "relay.toml:1 hostname",
                "relay.toml:2 policy.1.domains",
                "relay.toml:2 policy.1.directory",
                "relay.toml:4 policy.1.domians",
                "relay.toml:5 policy.1.when.listener.1",
                "relay.toml:7 listener.1.address",
                "relay.toml:8 listener.1.prot",
                "relay.toml:10 policy.2.use",
                "relay.toml:11 policy.2.mode",
                "relay.toml:13 limits.recipients",
                "relay.toml:14 limits.idle",
            ],
        )

    def test_the_file_has_the_name_that_the_operator_gave_it(self) -> None:
        self.assertEqual(problems("x = 1", file="../etc/my relay.toml"), ["../etc/my relay.toml:1: x: unknown key"])

    def test_control_characters_of_a_key_do_not_reach_the_terminal(self) -> None:
        self.assertEqual(problems('"\\u001b[2J" = 1'), ['relay.toml:1: "\\u001b[2J": unknown key'])

    def test_a_machine_whose_name_is_of_no_use_needs_one_in_the_file(self) -> None:
        said = "relay.toml:1: hostname: is missing, and the machine's own name is none that mail can use"
        self.assertEqual(problems("", hostname="my machine"), [said])
        self.assertEqual(problems('hostname = "mx"', hostname="my machine"), [])

    @given(st.text(alphabet="abhostname$=[]{}\"'\n ._1#,\\", max_size=60))
    def test_no_text_is_anybodys_fault_but_the_operators(self, text: str) -> None:
        problems(text)  # any other exception fails the test

    @given(st.lists(st.sampled_from(sorted(WRONG)), max_size=3, unique=True))
    def test_what_is_wrong_in_several_policies_is_said_of_each(self, names: list[str]) -> None:
        policies = [WRONG[name] for name in names if WRONG[name][0].count("[[policy]]") == 1]
        policies = [(text, said) for text, said in policies if text.startswith("\n[[policy]]")]
        expected = sum(len(said) for _, said in policies)
        self.assertEqual(len(problems("".join(text for text, _ in policies))), expected)


class RightTests(SynchronousTestCase):
    def test_an_empty_file_has_every_default(self) -> None:
        self.assertEqual(
            dict(settings("")),
            {
                **dict(Settings()),
                "hostname": "mail.example.org",
                "spool": Settings().spool.model_copy(update={"path": BASE / "var/spool"}),
                "control": Settings().control.model_copy(update={"socket": BASE / "var/control.sock"}),
                "tls": Settings().tls.model_copy(update={"own": BASE / "var/tls"}),
            },
        )

    def test_what_is_found_later_has_its_line_too(self) -> None:
        found = settings('[tls]\ncertificates = [\n"a.pem",\n"b.pem"]\n')
        said = found.problem("relay.toml", ("tls", "certificates", 1), "is not there")
        self.assertEqual(str(said), "relay.toml:4: tls.certificates.2: is not there")
        self.assertEqual(str(found.problem("x", ("tls", "own"), "is not there")), "x:1: tls.own: is not there")

    def test_users_of_one_listener_with_tls_are_enough(self) -> None:
        found = settings(
            '[auth]\npasswords = "users"\n[[listener]]\naddress = "[::1]:25"\n'
            '[[listener]]\naddress = "[::1]:465"\nprotocol = "submission"\ntls = "implicit"\n'
        )
        self.assertEqual(found.auth.passwords, BASE / "users")
        self.assertEqual([listener.tls for listener in found.listener], ["none", "implicit"])

    def test_units_are_understood(self) -> None:
        found = settings('[limits]\nidle = "4m"\nmessage = "1 MiB"\n[delivery.retry]\ngive_up = "30d"')
        self.assertEqual((found.limits.idle, found.limits.message), (240, 1048576))
        self.assertEqual(found.delivery.retry.give_up, 30 * 86400)

    def test_a_host_name_is_kept_in_its_canonical_form(self) -> None:
        self.assertEqual(settings('hostname = "MX.Example.org"').hostname, "mx.example.org")

    def test_networks_may_be_single_addresses(self) -> None:
        self.assertEqual(
            settings('trusted = ["10.0.0.0/8", "::1"]').trusted, (ip_network("10.0.0.0/8"), ip_network("::1"))
        )

    def test_dns_servers_have_a_port_if_it_is_not_the_usual_one(self) -> None:
        found = settings('[dns]\nservers = ["192.0.2.53", "[::1]:5353"]').dns.servers
        self.assertEqual(found, (Inet("192.0.2.53", 53), Inet("::1", 5353)))

    def test_the_mail_log_is_a_file_or_standard_output(self) -> None:
        self.assertEqual(settings('log.mail = "-"').log.mail, "-")
        self.assertEqual(settings('log.mail = "mail.log"').log.mail, BASE / "mail.log")

    def test_a_listener_without_a_name_is_called_as_its_address(self) -> None:
        text = '[[listener]]\naddress = "[0::1]:25"\n[[listener]]\nname = "x"\naddress = "unix:run/s"\n'
        text += '[[listener]]\naddress = "127.0.0.1:0"\n' * 2
        found = settings(text).listener
        self.assertEqual([listener.name for listener in found], ["[::1]:25", "x", "127.0.0.1:0", "127.0.0.1:0-2"])

    def test_a_policy_without_a_name_is_called_as_what_it_uses(self) -> None:
        uses = [
            'use = "reject"',
            'use = "reject"\nname = "reject-2"',
            'use = "reject"',
            'use = "a.b:Picky"\nnumber = 1',
        ]
        text = "".join(f"[[policy]]\n{use}\n" for use in uses)
        found = settings(text, option_model={**MODELS, "a.b:Picky": MODELS["picky"]}.get).policy
        self.assertEqual([policy.name for policy in found], ["reject", "reject-2", "reject-3", "Picky"])

    def test_a_policy_has_its_own_options_and_those_of_all(self) -> None:
        text = """
[[policy]]
use = "reject"
text = "go away"
when = { client = ["127.0.0.0/8"], sender = ["<>", "Ann@Example.ORG", "b.example"], recipient = ["C.example"] }
timeout = "3s"
mode = "off"
"""
        (policy,) = settings(text).policy
        self.assertEqual((policy.use, policy.timeout, policy.mode, policy.line), ("reject", 3, "off", 2))
        self.assertEqual(policy.options, MODELS["reject"](text="go away"))
        self.assertEqual(policy.when.client, (ip_network("127.0.0.0/8"),))
        self.assertEqual(policy.when.sender, ("<>", "Ann@example.org", "b.example"))
        self.assertEqual(policy.when.recipient, ("c.example",))
        self.assertEqual((policy.when.listener, policy.when.authenticated), ((), None))

    def test_relative_paths_are_relative_to_the_file_wherever_they_are(self) -> None:
        text = """
[spool]
path = "../../srv/spool"
[[listener]]
address = "unix:run/smtp.sock"
[[policy]]
use = "mailbox"
domains = ["a"]
directory = "mail"
users = "users.txt"
more = { x = "x" }
[[policy]]
use = "mailbox"
domains = ["a"]
directory = "/srv/mail"
"""
        found = settings(text)
        self.assertEqual(found.spool.path, Path("/srv/spool"))
        self.assertEqual(found.listener[0].address, Unix(BASE / "run/smtp.sock"))
        options: Any = found.policy[0].options
        self.assertEqual((options.directory, options.users), (BASE / "mail", BASE / "users.txt"))
        self.assertEqual(options.more, {"x": BASE / "x"})
        options = found.policy[1].options
        self.assertEqual((options.directory, options.users), (Path("/srv/mail"), "system"))

    def test_workers_are_a_number_or_auto(self) -> None:
        for workers, meant in (("1", 1), ("256", 256), ('"auto"', "auto")):
            self.assertEqual(settings(f"[process]\nworkers = {workers}\n").process.workers, meant)
        for workers in ("0", "257", "true", "2.0", '"2"', '"many"'):
            with self.assertRaises(ConfigurationError) as caught:
                settings(f"[process]\nworkers = {workers}\n")
            self.assertEqual(
                [(each.line, each.key, each.text) for each in caught.exception.problems],
                [(2, "process.workers", "should be a number from 1 to 256, or 'auto'")],
            )

    def test_words_are_replaced_in_values_and_keys(self) -> None:
        text = """
greeting = "$hostname says hello"
[process]
user = "$user"
[[policy]]
use = "mailbox"
domains = ["localhost", "$hostname"]
users = ["jon", "$user"]
directory = "mail/$user"
[[policy]]
use = "alias"
table = { "postmaster@$hostname" = ["$user@$hostname"] }
[[policy]]
use = "reject"
text = "$$user owes $5 ^.*$"
"""
        found = settings(text)
        mailbox, alias, reject = (policy.options for policy in found.policy)
        self.assertEqual(found.greeting, "mail.example.org says hello")
        self.assertEqual(found.process.user, "ann")
        self.assertEqual(mailbox.domains, ("localhost", "mail.example.org"))  # type: ignore[attr-defined]
        self.assertEqual(mailbox.users, ("jon", "ann"))  # type: ignore[attr-defined]
        self.assertEqual(mailbox.directory, BASE / "mail/ann")  # type: ignore[attr-defined]
        self.assertEqual(alias.table, {"postmaster@mail.example.org": ("ann@mail.example.org",)})  # type: ignore[attr-defined]
        self.assertEqual(reject.text, "$user owes $5 ^.*$")  # type: ignore[attr-defined]

    def test_the_host_name_of_the_file_goes_before_the_machines(self) -> None:
        found = settings('hostname = "MX.example"\n[[policy]]\nuse = "reject"\ntext = "$hostname"')
        self.assertEqual(found.policy[0].options, MODELS["reject"](text="mx.example"))

    def test_settings_cannot_be_changed(self) -> None:
        with self.assertRaises(ValueError):
            settings("").limits.errors = 3  # type: ignore[misc]


class DecodeTests(SynchronousTestCase):
    def test_a_byte_order_mark_means_nothing(self) -> None:
        self.assertEqual(decode("\ufeffü = 1".encode(), file="x"), "ü = 1")

    def test_what_is_not_utf_8_has_a_line(self) -> None:
        with self.assertRaises(ConfigurationError) as caught:
            decode(b"a = 1\nb = '\xfc'\n", file="relay.toml")
        self.assertEqual(caught.exception.problems, (Problem("relay.toml", 2, "", "this is not UTF-8"),))
        self.assertEqual(str(caught.exception), "relay.toml:2: this is not UTF-8")
