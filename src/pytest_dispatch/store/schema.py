"""The journal's tables, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 1  # of these tables; a journal of another version is refused

metadata = MetaData()

meta = Table("dispatch_meta", metadata, Column("version", Integer, primary_key=True))

sessions = Table(
    "dispatch_sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("source", Text, nullable=False),
    Column("opened", Float, nullable=False),
    Column("closed", Float),
    Column("record", LargeBinary, nullable=False),
)

runs = Table(
    "dispatch_runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("session", String(32), nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),
)

reports = Table(
    "dispatch_reports",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(64), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("record", LargeBinary, nullable=False),
)

events = Table(
    "dispatch_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(64), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("machine", Text, nullable=False),
)

console = Table(
    "dispatch_console",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("text", Text, nullable=False),
    Index("dispatch_console_attempt", "run", "attempt"),
)

served = Table(
    "dispatch_served",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(64), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("digest", String(80), nullable=False),
)

outbox = Table(
    "dispatch_outbox",
    metadata,
    Column("marker", String(64), primary_key=True),
    Column("session", String(32), nullable=False),
    Column("run", String(64), nullable=False),
    Column("repo", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("given_up", Boolean, nullable=False),
    Column("url", Text, nullable=False),
)

#: Not there in journals of earlier makes of this version, and made when such a one is opened.
ADDED = {served}
