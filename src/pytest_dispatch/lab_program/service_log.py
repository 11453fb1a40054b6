"""How a service writes its log to standard error: a line of text, or of JSON, for each record."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from pytest_dispatch.server.request_log import request_id

OWN = "pytest_dispatch"  # what is below this name is our own, and logged in more detail

#: Attributes of every record; what else a record has was given as `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def set_up_log(*, as_json: bool, detailed: bool) -> None:
    """Write log records and Python's warnings to standard error.

    Args:
        as_json: Write JSON, not text.
        detailed: Also write our own records of requests, reloads and the like, not only warnings.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else TextLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger(OWN).setLevel(logging.INFO if detailed else logging.WARNING)
    logging.captureWarnings(True)


class TextLines(logging.Formatter):
    """Lines of text, with the id of the request that caused them."""

    def __init__(self) -> None:
        super().__init__("dispatch: %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return a record's own line."""
        own, text = request_id.get(), super().formatMessage(record)
        return f"{text} [{own}]" if own else text


class JsonLines(logging.Formatter):
    """Lines of JSON with `time`, `level`, `logger`, `message`, `request` and `traceback`, and what the record adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if own := request_id.get():
            said["request"] = own
        said |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)
