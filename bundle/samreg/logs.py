"""The log of a process on stderr: plain text, or one JSON object for each event."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from datetime import UTC, datetime

FORMATS = ("text", "json")


def log_to_stderr(form: str, level: str = "INFO") -> None:
    """Sends what the library logs to stderr, and nothing of other libraries. It holds no patient data.

    Args:
        form: One of `FORMATS`; anything else is "text".
        level: Least level, by name.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine() if form == "json" else logging.Formatter("samreg: %(message)s"))
    logger = logging.getLogger("samreg")
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(level)
    # Other libraries repeat values of headers in their warnings.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")


class _JsonLine(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, and of an exception its type alone."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            event["exception"] = record.exc_info[0].__name__
        return json.dumps(event, ensure_ascii=False)
