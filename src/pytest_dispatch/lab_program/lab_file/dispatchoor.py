"""Makes a lab file from a configuration of dispatchoor, and says what it left out and why.

It knows the keys of dispatchoor's README and those of its code, which differ in places.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ruamel.yaml import YAML

from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.lab_program.lab_file.document import Document, Problem, UnreadableError, read_document
from pytest_dispatch.lab_program.lab_file.reading import LabFileError, text_of

_KEPT_DAYS = 30  # days that dispatchoor keeps its history if nothing else is said
_PORT = 9090  # its own if nothing else is said

_ROLES = {"admin": "admin", "readonly": "reader", "": "reader"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*)|\$)?")

#: Keys for which a lab has no use, and why.
_UNUSED = {
    "server.rate_limit": "a lab limits sign-ins and callers by itself",
    "github.poll_interval": "a lab decides itself when it asks GitHub",
    "github.rate_limit_buffer": "a lab shares its budget of GitHub requests itself",
    "dispatcher.interval": "a lab gives out work as soon as a machine is free",
    "dispatcher.tracking_interval": "a lab decides itself when it asks GitHub",
    "auth.github.redirect_url": "a lab never takes it from a request; set server.public_url",
    "history.cleanup_interval": "a lab removes what is too old by itself",
}
#: Keys that are taken over, or looked at.
_USED = frozenset(
    {
        *("server.listen", "server.cors_origins", "database.driver", "database.sqlite", "database.postgres"),
        *("github.token", "github.runners_token", "dispatcher.enabled", "dispatcher.max_concurrent"),
        *("auth.session_ttl", "auth.basic.enabled", "auth.basic.users", "auth.github.enabled"),
        *("auth.github.client_id", "auth.github.client_secret", "auth.github.org_role_mapping"),
        *("auth.github.user_role_mapping", "auth.github.allowed_orgs", "auth.github.role_mapping"),
        *("history.retention_days", "groups.github"),
    }
)
_PARENTS = frozenset(key.rpartition(".")[0] for key in _USED)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a configuration of dispatchoor.

    Attributes:
        text: The lab file.
        left_out: A line for each thing that is not in it, or is there otherwise.
    """

    text: str
    left_out: tuple[str, ...]


def import_dispatchoor(path: Path) -> Imported:
    """Make a lab file from a configuration of dispatchoor, with its template files.

    Raises:
        ConfigError: The file, or one that it names, cannot be read.
    """
    return _Import(path).made()


@dataclass(slots=True)
class _Import:
    path: Path
    notes: list[str] = field(default_factory=list)
    variables: dict[str, None] = field(default_factory=dict)

    def made(self) -> Imported:
        given = self._mapping(self._read(self.path).value, "the file")
        self._unused(given)
        sections = {
            "server": self._server(_at(given, "server")),
            "database": self._database(_at(given, "database")),
            "auth": self._auth(_at(given, "auth")),
            "github": self._github(_at(given, "github")),
            "groups": list(self._groups(given)),
            "retention": self._retention(_at(given, "history")),
        }
        if self.variables:
            self._note("variables", f"dispatchoor leaves unset ones as they are, a lab needs {_listed(self.variables)}")
        text = io.StringIO()
        yaml = YAML(pure=True)
        yaml.width = 110
        yaml.indent(mapping=2, sequence=4, offset=2)
        yaml.dump({name: section for name, section in sections.items() if section}, text)
        return Imported(text.getvalue(), tuple(self.notes))

    def _note(self, key: str, why: str) -> None:
        self.notes.append(f"{key}: {why}")

    def _read(self, path: Path) -> Document:
        try:
            return read_document(str(path), text_of(path))
        except UnreadableError as error:
            raise LabFileError([str(error)]) from None

    def _mapping(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise LabFileError(
                [str(Problem(str(self.path), 1, 1, f"{what}: expected a mapping of dispatchoor's keys"))]
            )
        return value

    def _unused(self, given: Mapping[str, Any], before: str = "") -> None:
        """Note the keys that are left out."""
        for key, value in given.items():
            name = f"{before}{key}"
            if name in _UNUSED:
                self._note(name, f"left out: {_UNUSED[name]}")
            elif name in _PARENTS and isinstance(value, dict):
                self._unused(value, f"{name}.")
            elif name not in _USED and value:
                self._note(name, "left out: no key of dispatchoor that is known here")

    # Sections

    def _server(self, server: Mapping[str, Any]) -> dict[str, Any]:
        host, _, port = str(server.get("listen") or f":{_PORT}").rpartition(":")
        made: dict[str, Any] = {"api": f"127.0.0.1:{port if port.isdecimal() else _PORT}"}
        if host not in ("127.0.0.1", "localhost"):
            why = "a lab serves people on this computer only, until server has tls, trusted_proxies or insecure: true"
            self._note("server.listen", f"became {made['api']}: {why}")
        origins = [self._text(each) for each in _list(server.get("cors_origins"))]
        if "*" in origins:
            self._note("server.cors_origins", "left out *: name the pages that may call the API")
        if named := [origin for origin in origins if origin != "*"]:
            made["cors_origins"] = named
        return made

    def _database(self, database: Mapping[str, Any]) -> dict[str, Any]:
        self._note("database", "the history in it is not taken over; a lab makes tables of its own")
        if database.get("driver", "sqlite") != "postgres":
            return {}
        postgres = _at(database, "postgres")
        user, password = (self._in_url(postgres.get(key)) for key in ("user", "password"))
        place = f"{self._text(postgres.get('host'))}:{postgres.get('port') or 5432}"
        name, ssl = self._in_url(postgres.get("database")), self._text(postgres.get("sslmode") or "disable")
        who = f"{user}:{password}@" if password else f"{user}@" if user else ""
        if "${" in password:
            self._note("database.postgres.password", "is in a URL now: write its variable percent-encoded")
        return {"url": f"postgresql+psycopg://{who}{place}/{name}?sslmode={ssl}"}

    def _github(self, github: Mapping[str, Any]) -> dict[str, Any]:
        tokens = [str(github[key]) for key in ("token", "runners_token") if github.get(key)]
        if len(set(tokens)) > 1:
            self._note("github.runners_token", "left out: a lab has one token for each owner; see github.tokens")
        return {"tokens": {"*": self._text(tokens[0])}} if tokens else {}

    def _auth(self, auth: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        basic, github = _at(auth, "basic"), _at(auth, "github")
        if basic.get("enabled") and (users := [self._user(user) for user in _mappings(basic.get("users"))]):
            made["users"] = users
        elif basic.get("users"):
            self._note("auth.basic.users", "left out: auth.basic.enabled is not true")
        if github.get("enabled"):
            made["github"] = self._sign_in(github)
        elif github:
            self._note("auth.github", "left out: its `enabled` is not true")
        if ttl := auth.get("session_ttl"):
            made |= self._duration("auth.session_ttl", "session_ttl", str(ttl))
        return made

    def _user(self, user: Mapping[str, Any]) -> dict[str, Any]:
        name = self._text(user.get("username"))
        role = self._role(f"auth.basic.users.{name}", user.get("role"))
        return {"name": name, "password": self._text(user.get("password")), "role": role}

    def _sign_in(self, github: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {key: self._text(github.get(key)) for key in ("client_id", "client_secret")}
        organizations = {str(each): "reader" for each in _list(github.get("allowed_orgs"))}
        for key in ("role_mapping", "org_role_mapping"):
            organizations |= self._roles(f"auth.github.{key}", _at(github, key))
        logins = self._roles("auth.github.user_role_mapping", _at(github, "user_role_mapping"))
        return made | {key: value for key, value in (("organizations", organizations), ("logins", logins)) if value}

    def _roles(self, key: str, given: Mapping[str, Any]) -> dict[str, str]:
        return {name: self._role(f"{key}.{name}", role) for name, role in given.items()}

    def _role(self, where: str, role: object) -> str:
        given = str(role or "")
        if given not in _ROLES:
            self._note(where, f"became a reader: no role of dispatchoor is called {given!r}")
        return _ROLES.get(given, "reader")

    def _retention(self, history: Mapping[str, Any]) -> dict[str, Any]:
        days = history.get("retention_days") or _KEPT_DAYS
        return {"runs": f"{days}d"} if isinstance(days, int) and days > 0 else {}

    def _duration(self, where: str, key: str, text: str) -> dict[str, str]:
        try:
            parse_duration(text)
        except ConfigError as error:
            self._note(where, f"left out: {error}")
            return {}
        return {key: text}

    # Groups and templates

    def _groups(self, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        dispatcher = _at(given, "dispatcher")
        if dispatcher.get("enabled") is False:
            self._note("dispatcher.enabled", "left out: a lab always gives out work; pause its groups")
        most = dispatcher.get("max_concurrent")
        for group in _mappings(_at(given, "groups").get("github")):
            made = self._group(group)
            if isinstance(most, int) and most > 0:
                made["max_running"] = most
            if templates := list(self._templates(group, made["id"])):
                made["templates"] = templates
            yield made

    def _group(self, group: Mapping[str, Any]) -> dict[str, Any]:
        name = self._id("groups.github", group.get("id"))
        made: dict[str, Any] = {"id": name}
        made |= {key: self._text(group[key]) for key in ("name", "description") if group.get(key)}
        made["labels"] = self._labels(
            f"groups.github.{name}.runner_labels", map(str, _list(group.get("runner_labels")))
        )
        known = {"id", "name", "description", "runner_labels", "workflow_dispatch_templates"}
        known |= {"workflow_dispatch_templates_files", "workflow_dispatch_templates_urls"}
        for key in group.keys() - known:
            self._note(f"groups.github.{name}.{key}", "left out: no key of dispatchoor that is known here")
        return made

    def _templates(self, group: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
        yield from map(self._template, _mappings(group.get("workflow_dispatch_templates")))
        for file in _list(group.get("workflow_dispatch_templates_files")):
            found = self._read(self.path.parent / str(file)).value
            yield from map(self._template, _mappings(found))
            self._note(f"groups.github.{name}.workflow_dispatch_templates_files", f"{file} is in the lab file now")
        for url in _list(group.get("workflow_dispatch_templates_urls")):
            why = "fetch it, name it in workflow_dispatch_templates_files, and import again"
            self._note(f"groups.github.{name}.workflow_dispatch_templates_urls", f"left out {url}: {why}")

    def _template(self, template: Mapping[str, Any]) -> dict[str, Any]:
        name = self._id("workflow_dispatch_templates", template.get("id"))
        payload: dict[str, Any] = {key: self._text(template.get(key)) for key in ("owner", "repo")}
        payload["workflow"] = self._text(template.get("workflow_id"))
        payload["ref"] = self._text(template.get("ref") or "main")
        if inputs := _at(template, "inputs"):
            payload["inputs"] = {key: self._text(value) for key, value in inputs.items()}
        made: dict[str, Any] = {"id": name, "name": self._text(template.get("name") or name), "kind": "actions"}
        labels = [f"{key}={value}" for key, value in _at(template, "labels").items()]
        if kept := self._labels(f"{name}.labels", labels):
            made["labels"] = kept
        return made | {"payload": payload}

    # Values

    def _id(self, where: str, given: object) -> str:
        text = str(given or "")
        made = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:63] or "unnamed"
        if made != text:
            self._note(f"{where}.{text}", f"became {made}: an id has letters, digits and the signs . _ - only")
        return made

    def _labels(self, where: str, given: Iterable[str]) -> list[str]:
        kept = []
        for label in given:
            try:
                read_labels([label], "")
                kept.append(label)
            except ConfigError:
                self._note(where, f"left out {label!r}: a label is a name or name=value, without blanks")
        return kept

    def _text(self, value: object) -> str:
        """Return a text with its variables as a lab file has them; their values stay where they are."""

        def variable(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name is None:
                return match[0].replace("$", "$$")
            self.variables[name] = None
            return f"${{{name}}}"

        return _VARIABLE.sub(variable, "" if value is None else _as_written(value))

    def _in_url(self, value: object) -> str:
        text = self._text(value)
        return text if "${" in text else quote(text, safe="")


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _at(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = given.get(key)
    return found if isinstance(found, dict) else {}


def _list(given: object) -> list[Any]:
    return given if isinstance(given, list) else []


def _mappings(given: object) -> list[dict[str, Any]]:
    return [each for each in _list(given) if isinstance(each, dict)]


def _listed(names: Mapping[str, None]) -> str:
    return ", ".join(names)
