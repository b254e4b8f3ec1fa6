"""From a document, as `tomllib` gives it, to settings: everything that is said about it is said here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from relay.config.addresses import Inet, ListenAddress, listen_address
from relay.config.contradictions import contradictions
from relay.config.lines import KeyPath, Lines
from relay.config.policies import PolicyKeys, PolicySettings
from relay.config.settings import Settings
from relay.config.wording import Complaint, Hint, complaints, did_you_mean, known_keys
from relay.config.words import Words
from relay.mail.address import AddressError, canonical_domain

Model = TypeVar("Model", bound=BaseModel)

#: Finds the model of a policy's options by its `use`.
OptionModel: TypeAlias = Callable[[str], type[BaseModel] | None]

_ANY_NAME: Final = "localhost"


class Reading:
    """
    One document on its way to settings.

    What is wrong is collected in `found`, so that nothing hides anything else.
    """

    def __init__(self, document: dict[str, Any], lines: Lines, hostname: str, user: str) -> None:
        self.found: list[Complaint] = []
        #: Of these values enough has been said: they are not what they were meant to be.
        self._unclear: set[KeyPath] = set()
        self._hostname = self._host_name(document, hostname)
        words = Words({"hostname": self._hostname, "user": user})
        self._document = {
            key: value if key == "hostname" else words.replace(value, (key,)) for key, value in document.items()
        }
        self.found += words.complaints
        self._unclear.update(complaint.path for complaint in words.complaints)
        self.lines = lines.renamed(words.spelled_out)

    def settings(self, option_model: OptionModel, known: Callable[[], Iterable[str]]) -> Settings | None:
        """The settings, or `None` if anything was found to be wrong."""
        self._check_brackets()
        listeners, policies = self._tables("listener"), self._tables("policy")
        listener_names = self._names("listener", listeners, _name_by_address)
        self._check_addresses(listeners)
        policy_names = self._names("policy", policies, _name_by_use)
        made = []
        for index, (table, name) in enumerate(zip(policies, policy_names, strict=True)):
            policy = self._policy(("policy", index), table, name, option_model, known)
            self._check_listeners(("policy", index, "when", "listener"), table, listener_names)
            made.append(policy)
        # Policies are checked by now; if there are no tables of them, `Settings` says what is there instead.
        rest = {key: value for key, value in self._document.items() if key != "policy" or not policies}
        settings = self._validated(Settings, rest, (), _hint_for_settings)
        if settings is not None:
            for complaint in contradictions(settings):
                self._complain(complaint.path, complaint.text)
        if settings is None or self.found:
            return None
        named = zip(settings.listener, listener_names, strict=True)
        return settings.standing(self.lines).model_copy(
            update={
                "hostname": self._hostname,
                "listener": tuple(listener.model_copy(update={"name": name}) for listener, name in named),
                "policy": tuple(made),
            }
        )

    def _host_name(self, document: dict[str, Any], machine: str) -> str:
        """The name that `$hostname` stands for: if there is none, any, so that only this is complained about."""
        said = document.get("hostname", machine)
        try:
            return canonical_domain(said) if isinstance(said, str) else _ANY_NAME
        except AddressError:  # if it is the file's, `Settings` will say so
            if "hostname" not in document:
                self._complain(("hostname",), "is missing, and the machine's own name is none that mail can use")
            return _ANY_NAME

    def _check_brackets(self) -> None:
        """`[listener]` for `[[listener]]`, `[[spool]]` for `[spool]`: an easy slip, so it is said how it is written."""
        for key, value in self._document.items():
            if key in ("listener", "policy") and isinstance(value, dict):
                self._complain((key,), f"should be a list of tables: write [[{key}]]")
            elif _is_table(Settings, key) and isinstance(value, list) and all(isinstance(each, dict) for each in value):
                self._complain((key,), f"should be a table: write [{key}]")
            else:
                continue
            self._unclear.add((key,))

    def _tables(self, key: str) -> list[dict[str, Any]]:
        """The `[[tables]]` at this key; none if something else is there."""
        tables = self._document.get(key)
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            return tables
        return []

    def _names(self, key: str, tables: list[dict[str, Any]], derived: Callable[[dict[str, Any]], str]) -> list[str]:
        """The name of each table: its own, which must be its alone, or one that is made for it."""
        taken: set[str] = set()
        for index, table in enumerate(tables):
            name = table.get("name")
            if isinstance(name, str) and name in taken:
                self._complain((key, index, "name"), f"another {key} has this name")
            elif isinstance(name, str):
                taken.add(name)
        names = []
        for table in tables:
            name = table.get("name")
            if not isinstance(name, str):
                wanted = derived(table)
                free = (f"{wanted}-{number}" for number in range(2, len(tables) + 2))
                name = wanted if wanted not in taken else next(name for name in free if name not in taken)
                taken.add(name)
            names.append(name)
        return names

    def _policy(
        self,
        at: KeyPath,
        table: dict[str, Any],
        name: str,
        option_model: OptionModel,
        known: Callable[[], Iterable[str]],
    ) -> PolicySettings | None:
        """One `[[policy]]`, in two halves: what every policy has, and the options of what it uses."""
        common = {key: value for key, value in table.items() if key in PolicyKeys.model_fields}
        keys = self._validated(PolicyKeys, common, at, _hint_for_options(PolicyKeys))
        use = table.get("use")
        if not isinstance(use, str) or not use:
            return None
        try:
            model = option_model(use)
        except ValueError as error:
            self._complain((*at, "use"), " ".join(str(error).split()))
            return None
        if model is None:
            self._complain((*at, "use"), f"unknown policy{_one_of(use, known())}")
            return None
        written = {key: value for key, value in table.items() if key not in common}
        try:
            options = self._validated(model, written, at, _hint_for_options(model))
        except Exception as error:  # a plugin's validators may raise anything
            said = " ".join(f"{type(error).__name__}: {error}".split())
            self._complain(at, f"the options cannot be checked: {said}")
            return None
        if keys is None or options is None:
            return None
        return PolicySettings(
            name=name,
            use=use,
            when=keys.when,
            timeout=keys.timeout,
            retry=keys.retry,
            mode=keys.mode,
            examples=keys.examples,
            options=options,
            line=self.lines.line(at),
            lines={key: self.lines.line((*at, key)) for key in table},
        )

    def _check_addresses(self, listeners: list[dict[str, Any]]) -> None:
        taken: set[ListenAddress] = set()
        for index, table in enumerate(listeners):
            address = _address(table)
            if address in taken:
                self._complain(("listener", index, "address"), "another listener has this address")
            if address is not None and not (isinstance(address, Inet) and address.port == 0):
                taken.add(address)

    def _check_listeners(self, at: KeyPath, policy: dict[str, Any], names: list[str]) -> None:
        """A condition for a listener that there is not would never hold, and nobody would know why."""
        when = policy.get("when")
        wanted = when.get("listener") if isinstance(when, dict) else None
        for index, name in enumerate(wanted if isinstance(wanted, list) else ()):
            if isinstance(name, str) and name not in names:
                self._complain((*at, index), f"unknown listener{did_you_mean(name, names)}")

    def _validated(self, model: type[Model], document: dict[str, Any], at: KeyPath, hint: Hint) -> Model | None:
        try:
            return model.model_validate(document)
        except ValidationError as error:
            for complaint in complaints(error, document, hint):
                self._complain((*at, *complaint.path), complaint.text)
            return None

    def _complain(self, path: KeyPath, text: str) -> None:
        if path not in self._unclear:
            self.found.append(Complaint(path, text))


def _is_table(model: type[BaseModel], key: str) -> bool:
    kind = model.model_fields[key].annotation if key in model.model_fields else None
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _address(listener: dict[str, Any]) -> ListenAddress | None:
    """Where a listener listens, if that can be told; if not, `Settings` will say why."""
    address = listener.get("address")
    try:
        return listen_address(address) if isinstance(address, str) else None
    except ValueError:
        return None


def _name_by_address(listener: dict[str, Any]) -> str:
    return str(_address(listener))


def _name_by_use(policy: dict[str, Any]) -> str:
    """`package.module:Class` is called `Class`."""
    return str(policy.get("use", "")).rpartition(":")[2]


def _hint_for_settings(path: KeyPath) -> str:
    *table, key = path
    return _perhaps_above(path) or did_you_mean(str(key), known_keys(Settings, tuple(table)))


def _hint_for_options(model: type[BaseModel]) -> Hint:
    def hint(path: KeyPath) -> str:
        *table, key = path
        keys = known_keys(model, tuple(table))
        if not table:
            keys |= PolicyKeys.model_fields.keys()
        return _perhaps_above(("policy", *path)) or did_you_mean(str(key), keys)

    return hint


#: Keys of the document that are no tables.
_ABOVE: Final = frozenset(
    key for key in Settings.model_fields if not known_keys(Settings, (key,)) and not known_keys(Settings, (key, 0))
)


def _perhaps_above(path: KeyPath) -> str:
    """TOML's trap: a key of the document that is written below a `[table]` belongs to the table."""
    if len(path) > 1 and path[-1] in _ABOVE:
        return f"; '{path[-1]}' belongs to the top of the file, before the first [table]"
    return ""


def _one_of(word: str, words: Iterable[str]) -> str:
    names = sorted(words)
    return did_you_mean(word, names) or ("; there are " + ", ".join(f"'{name}'" for name in names) if names else "")
