"""How a service writes its log to standard error: a line of text, or of JSON, for each record."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from pytest_dispatch.server.request_log import request_id

STDERR = 2  # its file descriptor
OWN = "pytest_dispatch"  # what is below this name is our own, and logged in more detail

#: Attributes of every record; what else a record has was given as `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def set_up_log(environ: Mapping[str, str], *, as_json: bool, detailed: bool) -> None:
    """Write log records and Python's warnings to standard error.

    Args:
        environ: The environment, in which systemd says where its journal takes lines.
        as_json: Write JSON, not text.
        detailed: Also write our own records of requests, reloads and the like, not only warnings.
    """
    handler = logging.StreamHandler()
    timed = not goes_to_the_journal(environ.get("JOURNAL_STREAM", ""), STDERR)
    handler.setFormatter(JsonLines() if as_json else TextLines(timed=timed))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger(OWN).setLevel(logging.INFO if detailed else logging.WARNING)
    logging.captureWarnings(True)


def goes_to_the_journal(journal: str, stream: int) -> bool:
    """Return whether what is written to a file descriptor goes to systemd's journal, which notes the time itself.

    Args:
        journal: `JOURNAL_STREAM`: device and inode of what leads there, which a redirection of the descriptor does not
            change (systemd.exec(5)). Empty without systemd.
        stream: The descriptor.
    """
    if not journal:
        return False
    there = os.fstat(stream)
    return journal == f"{there.st_dev}:{there.st_ino}"


class TextLines(logging.Formatter):
    """Lines of text, with the id of the request that caused them.

    Args:
        timed: Whether each begins with its time, in UTC.
    """

    def __init__(self, *, timed: bool) -> None:
        super().__init__(f"{'%(asctime)s ' * timed}dispatch: %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """Return the time of a record."""
        del datefmt
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return a record's own line."""
        own, text = request_id.get(), super().formatMessage(record)
        return f"{text} [{own}]" if own else text


class JsonLines(logging.Formatter):
    """Lines of JSON with `time`, `level`, `logger`, `message`, `request` and `traceback`, and what the record adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        said = {
            "time": _time(record),
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


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
