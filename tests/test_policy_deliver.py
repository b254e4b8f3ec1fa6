from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay import registry
from relay.agents.pipe_options import PipeParameters
from relay.agents.registry import AgentPlugin, Agents
from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.parameters import from_text
from relay.config.schema import schema
from relay.interfaces import IAgent, IAgentMaker
from relay.mail.routing import ABSTAIN, Deliver
from relay.net.waiting import start
from relay.policy.assembly import make_chain
from relay.policy.deliver import DeliverAll
from relay.policy.registry import names, option_model, option_models
from relay.testing.policy import PolicyContract, inquiry, world


@implementer(IAgent)
class Fax:
    class Options(BaseModel, extra="forbid"):
        number: int = Field(description="Whom to call.")
        page: Path = Field(default=Path("/cover"), description="A cover page.")

    def __init__(self, world: Any) -> None:
        self.world = world

    def carry(self, consignment: Any) -> Any:
        return []


class Simple(Fax):
    Options = None  # type: ignore[assignment]


class Sloppy(Fax):
    class Options(BaseModel):  # type: ignore[assignment]
        number: int


class DeliverCase(SynchronousTestCase):
    def setUp(self) -> None:
        points = [EntryPoint(name, f"{__name__}:{value}", "relay.agents") for name, value in self.installed.items()]
        self.patch(registry, "entry_points", lambda group: points if group == "relay.agents" else [])

    installed = {"fax": "Fax", "simple": "Simple", "sloppy": "Sloppy"}  # noqa: RUF012

    def verdict(self, policy: str) -> Any:
        settings = load(
            f'hostname = "mx.example.org"\n[[policy]]\nuse = "deliver"\n{policy}',
            file="relay.toml",
            base=Path("/etc/relay"),
            hostname="mx",
            user="ann",
            option_model=option_model,
            known=names,
        )
        chain = make_chain(settings.policy, world(), file="relay.toml")
        (placement,) = start(chain.route(inquiry("jon@example.org"))).placements  # type: ignore[union-attr]
        return placement.route

    def wrong(self, policy: str) -> str:
        return str(self.assertRaises(ConfigurationError, self.verdict, policy))


class ConfiguredTests(DeliverCase):
    def test_any_agent_gets_the_mail_with_its_parameters_as_text(self) -> None:
        self.assertEqual(
            self.verdict('agent = "fax"\nparameters = { number = 7 }').parameters, {"number": "7"}, "no defaults"
        )
        self.assertEqual(self.verdict('agent = "console"'), Deliver("console", {}, "the configuration says so"))
        self.assertEqual(
            self.verdict(f'agent = "{__name__}:Fax"\n[policy.parameters]\nnumber = 7').parameters, {"number": "7"}
        )

    def test_paths_are_relative_to_the_file(self) -> None:
        route = self.verdict('agent = "maildir"\nparameters = { folder = "mail" }')
        self.assertEqual(route.parameters, {"folder": "/etc/relay/mail"})
        self.assertEqual(
            self.verdict('agent = "fax"\nparameters = { number = 7, page = "x" }').parameters["page"], "/etc/relay/x"
        )

    def test_what_is_no_text_is_json_and_comes_back_as_it_was(self) -> None:
        route = self.verdict(
            'agent = "pipe"\n[policy.parameters]\ncommand = ["/bin/x", "ü {sender}"]\ntimeout = "1m"\ntop = false\n'
            'environment = { A = "b" }\nmemory = "64 MiB"\ndirectory = "work"\nuser = "7"'
        )
        self.assertEqual(
            route.parameters,
            {
                "command": '["/bin/x","ü {sender}"]',
                "timeout": "60.0",
                "top": "false",
                "environment": '{"A":"b"}',
                "memory": "67108864",
                "directory": "/etc/relay/work",
                "user": "7",
            },
        )
        self.assertEqual(
            from_text(PipeParameters, route.parameters),
            PipeParameters(
                command=("/bin/x", "ü {sender}"),
                timeout=60.0,
                top=False,
                environment={"A": "b"},
                memory=67108864,
                directory=Path("/etc/relay/work"),
                user="7",
            ),
        )

    def test_an_agent_that_says_nothing_of_its_parameters_gets_what_there_is(self) -> None:
        route = self.verdict('agent = "simple"\nparameters = { any = "thing", list = [1, "2"], yes = true }')
        self.assertEqual(route.parameters, {"any": "thing", "list": '[1,"2"]', "yes": "true"})

    def test_wrong_parameters_are_said_with_their_lines(self) -> None:
        for policy, said in {
            'agent = "fax"': "relay.toml:2: policy.1: the agent 'fax' needs parameters: 'number'",
            'agent = "fax"\nparameters = { page = "x" }': "relay.toml:5: policy.1.parameters.number: is missing",
            'agent = "fax"\n[policy.parameters]\nnumber = 7\npag = "x"': (
                "relay.toml:7: policy.1.parameters.pag: unknown key, did you mean 'page'?"
            ),
            'agent = "fax"\n[policy.parameters]\n\nnumber = "many"': (
                "relay.toml:7: policy.1.parameters.number: should be a whole number"
            ),
            'agent = "fax"\nparameters = 7': "relay.toml:5: policy.1.parameters: should be a table",
            'agent = "pipe"\nparameters = { command = ["program"] }': (
                "relay.toml:5: policy.1.parameters.command: 'program' should be the absolute path of a program"
            ),
            'agent = "pipe"\nparameters = { command = ["/bin/x", "{user}"] }': (
                "relay.toml:5: policy.1.parameters.command: '{user}' stands for nothing; there are '{recipient}', "
                "'{local}', '{domain}', '{original}', '{sender}', '{id}'"
            ),
            'agent = "pipe"\nparameters = { command = ["/bin/{sender}"] }': (
                "relay.toml:5: policy.1.parameters.command: no mail says which program is run: there should be no '{' in "
                "its path"
            ),
            'agent = "http"\nparameters = { url = "http://app.example.org/" }': (
                "relay.toml:5: policy.1.parameters.url: should begin with 'https://': mail goes unencrypted only where "
                "'plain = true' says so"
            ),
            'agent = "faxe"': "relay.toml:4: policy.1.agent: unknown agent, did you mean 'fax'?",
            'agent = "carrier-pigeon"': (
                "relay.toml:4: policy.1.agent: unknown agent; there are 'console', 'fax', 'http', 'maildir', 'mbox', "
                "'pipe', 'simple', 'sloppy'"
            ),
            'agent = "nowhere.at:All"': (
                "relay.toml:4: policy.1.agent: the agent 'nowhere.at:All' cannot be loaded: ModuleNotFoundError: No "
                "module named 'nowhere'"
            ),
            'agent = "sloppy"': (
                "relay.toml:4: policy.1.agent: the options of the agent 'sloppy' should say extra='forbid': a misspelt "
                "key would go unnoticed"
            ),
        }.items():
            with self.subTest(policy=policy):
                self.assertEqual(self.wrong(policy), said)

    def test_all_that_is_wrong_is_said_at_once(self) -> None:
        said = self.wrong('agent = "pipe"\ndomain = "x"\n[policy.parameters]\ncommand = []\ntimeout = "soon"')
        self.assertEqual(
            [line.split(": ")[1] for line in said.splitlines()],
            [
                "policy.1.domain",
                "policy.1.parameters.command",
                "policy.1.parameters.timeout",
            ],
        )

    def test_an_editor_is_told_of_its_keys(self) -> None:
        self.assertIn('"deliver"', str(schema(option_models())).replace("'", '"'))


class DomainsTests(PolicyContract, SynchronousTestCase):
    policy = DeliverAll
    options = {"agent": "console", "domains": ["Example.ORG"]}  # noqa: RUF012

    def test_mail_for_its_domains_goes_to_the_agent(self) -> None:
        self.assertIsInstance(self.ask("jon@example.org"), Deliver)

    def test_on_other_mail_it_has_no_opinion(self) -> None:
        self.assertIs(self.ask("jon@sub.example.org"), ABSTAIN)

    def test_without_domains_it_takes_all(self) -> None:
        policy = DeliverAll(DeliverAll.Options(agent="console"), world())
        self.assertIsInstance(policy.route(inquiry("jon@example.com")), Deliver)


class AgentsTests(DeliverCase):
    def test_our_own_that_were_not_given_are_made_when_they_are_needed(self) -> None:
        given = Fax(None)
        agents = Agents({"maildir": given}, world())
        self.assertIs(agents["maildir"], given)
        self.assertTrue(IAgent.providedBy(agents["pipe"]))
        self.assertIs(agents["pipe"], agents["pipe"])
        self.assertTrue(IAgent.providedBy(agents["http"]))

    def test_one_that_somebody_has_installed_is_made_of_the_world(self) -> None:
        this = world()
        agent: Any = Agents({}, this)["fax"]
        self.assertIs(agent.world, this)

    def test_one_that_nobody_has_is_a_key_error(self) -> None:
        self.assertRaises(KeyError, lambda: Agents({}, world())["carrier-pigeon"])

    def test_a_plugin_in_one_statement_says_which_parameters_it_has(self) -> None:
        plugin = AgentPlugin("fax", Fax)
        self.assertTrue(IAgentMaker.providedBy(plugin))
        self.assertIs(registry.parameters_model(plugin, "fax"), Fax.Options)
        self.assertIsNone(registry.parameters_model(AgentPlugin("simple", Simple), "simple"))


class TextTests(SynchronousTestCase):
    def test_text_that_is_no_json_stays_what_it_is_and_is_judged_by_the_model(self) -> None:
        for text, said in {
            "[": "command: should be a list",
            '["/bin/x"': "command: should be a list",
            "[" * 100_000: "command: should be a list",
            "7": "command: should be a list",
            "[7]": "command.0: should be a string",
        }.items():
            problem = self.assertRaises(ValueError, from_text, PipeParameters, {"command": text})
            self.assertEqual(str(problem), said)

    def test_all_that_is_wrong_is_said_in_one_line(self) -> None:
        problem = self.assertRaises(ValueError, from_text, PipeParameters, {"comand": "x", "top": "perhaps"})
        self.assertEqual(
            str(problem),
            "command: is missing; top: should be true or false; comand: unknown key, did you mean 'command'?",
        )
