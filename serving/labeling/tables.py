"""The tables of labeling, beside those of the keys. They hold ids only: what people wrote stays in the log, where it is sealed.

Two rules hold by constraints, so that no number of annotators, gateways or machines can break them: one task for each item
and rater, and at most ``overlap`` tasks that count for each item, since each takes one of its slots.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

streams = Table(
    "label_streams",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("plan", Text, nullable=False),
    Column("drawn", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("closed", Float),
    UniqueConstraint("project", "name"),
)
"""``plan`` is a `StreamPlan` as JSON; ``drawn`` how far the log was drawn from: offsets by partition, as JSON."""

items = Table(
    "label_items",
    metadata,
    Column("id", String, primary_key=True),
    Column("stream", String, nullable=False, index=True),
    Column("number", Integer),
    Column("about", String),
    Column("answers", Text, nullable=False),
    Column("golden", Boolean, nullable=False),
    Column("right_answer", Text),
    Column("tests", Text),
    Column("gone", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    UniqueConstraint("stream", "number"),
    UniqueConstraint("stream", "about"),
)
"""``number`` counts towards the quota, golden items have none; ``about`` is a hash of the completions, none for a conversation;
``answers`` says where these are in the log, as JSON; ``gone``: they cannot be read any more."""

tasks = Table(
    "label_tasks",
    metadata,
    Column("id", String, primary_key=True),
    Column("stream", String, nullable=False, index=True),
    Column("item", String, nullable=False),
    Column("rater", String, nullable=False, index=True),
    Column("key_id", String, nullable=False),
    Column("golden", Boolean, nullable=False),
    Column("open_for", String, unique=True),
    Column("slot", Integer),
    Column("coin", Float, nullable=False),
    Column("handed_out", Float, nullable=False),
    Column("lease_until", Float, nullable=False),
    Column("lapses", Integer, nullable=False),
    Column("digest", String),
    Column("server_ms", Float),
    Column("client_ms", Float),
    Column("done", Float),
    Column("outcome", String),
    Column("reason", String),
    Column("correct", Boolean),
    UniqueConstraint("item", "rater"),
    UniqueConstraint("item", "slot"),
)
"""``open_for`` is stream and rater while a task is open, none after: one open task for each. ``slot``: which of the item's
places it takes, none once it was skipped or has lapsed."""
