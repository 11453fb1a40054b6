"""Names the keys of a lab file, with their places, in errors that name options or keys without a place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.lab_program.lab_file.reading import LabFileError
from pytest_dispatch.lab_program.lab_file.sections import LabFile

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.lab_file.document import Document

#: The key of a lab file that says what an option of `dispatch serve` or of pytest says elsewhere.
KEYS = {
    "bind": "server.boot",
    "api": "server.api",
    "path": "server.path",
    "allow": "server.allow",
    "boot-tool": "server.boot_tools",
    "db": "database.url",
    "cache": "sources.cache",
    "cache-limit": "sources.cache_limit",
    "issues-repo": "github.issue_repositories",
    "api-url": "github.api_url",
}
#: Options that are named in another form.
_OTHER_FORMS = (("--dispatch-db or --db", "--db"), ("dispatch_cache_limit", "--cache-limit"))

_OPTION = re.compile(rf"--(?:dispatch-)?({'|'.join(KEYS)})(?![\w-])")
_KEY = re.compile(r"([a-z_]+)(?:\.[\w-]+)*(?=: )")


@dataclass(frozen=True, slots=True)
class KeyNames:
    """The keys of one file."""

    document: Document = field(repr=False)  # it has secrets

    def by_key(self, error: DispatchError) -> DispatchError:
        """Return an error whose text names the file, the line and the key, if it is about one; else the same error."""
        if isinstance(error, ConfigError) and error.problems:
            return error
        said = str(error)
        for form, usual in _OTHER_FORMS:
            said = said.replace(form, usual)
        option, text = _OPTION.search(said), _OPTION.sub(lambda found: KEYS[found[1]], said)
        begins = _KEY.match(text)
        if begins is not None and begins[1] in LabFile.model_fields:
            key, text = begins[0], text[begins.end() + 2 :]
        elif option is not None:
            key = KEYS[option[1]]
        else:
            return error
        placed = str(self.document.problem(tuple(key.split(".")), text))
        return LabFileError([placed]) if isinstance(error, ConfigError) else LabError(placed)
