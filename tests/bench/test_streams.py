"""The clients of the swap bench count what went wrong, and nothing else; answers are held against the log."""

from __future__ import annotations

import json

import pytest
from sse_gateway import END, HEAD, Script, chunk, gateway, said, whole

from feedback.events import CompletionCreated, CompletionText, Event, Exposure
from feedback.sqlite_log import SqliteLog
from ops.bench.answers import Checked, check, named_in
from ops.bench.streams import Streams, Tally

ERROR = HEAD + said(" seven") + chunk(json.dumps({"error": {"message": "the engine is gone"}}).encode()) + END
NO_DONE = HEAD + said(" seven") + said(finish_reason="length", plaudit={"completion_id": "c"}) + END
NO_REASON = HEAD + said(" seven", plaudit={"completion_id": "c"}) + chunk(b"[DONE]") + END
NAMELESS = HEAD + said(" seven", "length") + chunk(b"[DONE]") + END
CUT = HEAD + said(" seven")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"


async def tally_of(script: Script, answers: int = 4, clients: int = 1) -> Tally:
    async with gateway(script) as url, Streams(url, "key", clients) as load:
        await load.more(answers, 10)
    return load.tally


async def test_whole_answers_are_kept_with_the_words_they_say():
    tally = await tally_of(lambda number, _: whole(number, " eight" if number == 2 else " seven"))
    assert (tally.failed, tally.reconnects) == (0, 0)
    assert [tally.said[f"c{number}"] for number in range(4)] == ["seven", "seven", "eight", "seven"]
    assert tally.first["seven"] < tally.first["eight"] < tally.last["seven"]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (ERROR, "the engine is gone"),
        (NO_DONE, "ended early"),
        (NO_REASON, "ended early"),
        (NAMELESS, "no completion id"),
        (CUT, "ClientPayloadError"),
        (BUSY, "status 503"),
        (whole(0, ""), "the answer is empty"),
        (HEAD + chunk(b"{") + END, "JSONDecodeError"),
    ],
)
async def test_an_answer_that_is_not_whole_is_a_failed_request(bad: bytes, told: str):
    tally = await tally_of(lambda number, _: bad if number == 1 else whole(number))
    assert (tally.failed, tally.reconnects) == (1, 0)
    assert told in tally.failures[0]


async def test_a_kept_connection_that_the_server_closes_is_replaced_and_counted_but_nothing_failed():
    tally = await tally_of(lambda number, on_this: b"" if on_this == 2 else whole(number), answers=6)
    assert tally.failed == 0
    assert tally.reconnects >= 2


async def test_a_new_connection_that_is_closed_without_an_answer_is_a_failed_request():
    tally = await tally_of(lambda number, _: b"" if number == 0 else whole(number))
    assert (tally.failed, tally.reconnects) == (1, 0)
    assert "ServerDisconnectedError" in tally.failures[0]


async def test_a_word_that_does_not_come_in_time_is_told():
    async with gateway(lambda number, _: whole(number)) as url, Streams(url, "key", 2) as load:
        assert await load.heard("seven", 10) == load.tally.first["seven"]
        with pytest.raises(TimeoutError):
            await load.heard("eight", 0.05)


def test_answers_are_mixed_misnamed_or_missing_in_the_log_each_for_itself():
    adapters = {"seven": "v7", "eight": "v8"}
    answers = {"whole": "seven", "mixed": "eight seven", "foreign": "nine", "misnamed": "eight", "unlogged": "seven"}
    named = {"whole": "v7", "mixed": "v7", "foreign": "v7", "misnamed": "v7"}
    assert check(answers, adapters, named) == Checked(mixed=2, misnamed=1, unlogged=1)


def test_the_log_names_the_adapter_of_every_completion_in_it(tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    log.append([_completion("c1", "v7"), _completion("c2", "v8")])
    assert named_in(log, ["c1", "c2"]) == {"c1": "v7", "c2": "v8"}
    assert "c3" not in named_in(log, ["c3"], timeout_s=0)
    log.close()


def _completion(name: str, adapter: str) -> Event:
    data = CompletionCreated(
        completion_id=name,
        conversation="conversation",
        user="user",
        text=CompletionText(messages=(), answer=""),
        exposure=Exposure(completion_id=name, adapter=adapter),
    )
    return Event(id=name, time=1.0, project="default", key="conversation", data=data)
