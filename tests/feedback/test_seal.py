from __future__ import annotations

import threading
from concurrent.futures import Future, wait

import pytest
from feedback_samples import amendment, completion, judged, rating, retraction

from feedback.codec import decode, encode
from feedback.events import Correction, FeedbackSet, Rating, Target
from feedback.log import EventConflict, LogUnavailable, TopicReader
from feedback.partition import partition_of
from feedback.seal import DataKey, KeysUnavailable, Owner, SealBroken, erased, key_of, open_event, owner_of, seal_event
from feedback.sealed_log import SealedLog
from feedback.sqlite_log import SqliteLog

KEY = DataKey(1, b"k" * 32)
WRITTEN = {
    "completion": completion("x1"),
    "comment": rating("f1", comment="liked it"),
    "correction": judged("f2", Correction(text="better", comment="why")),
    "amendment": amendment("f3", {"comment": "after all", "value": -1}),
    "emptied": amendment("f4", {"comment": ""}),
}
TEXTS = (b"answer of x1", b"liked it", b"better", b"why", b"after all")


class Keys:
    """Text keys in memory. ``known`` knows nothing while ``slow``; ``gate`` holds up whoever asks for new ones."""

    def __init__(self) -> None:
        self.versions: dict[Owner, list[DataKey | None]] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.down = False
        self.away: set[Owner] = set()

    def known(self, owner):
        held = self.versions.get(owner)
        return held[-1] if held else None

    def newest(self, owners):
        self.gate.wait(10)
        lacking = {owner for owner in owners if self.down or owner in self.away}
        if lacking:
            raise KeysUnavailable("no keys", lacking)
        for owner in owners:
            held = self.versions.setdefault(owner, [])
            if not held or held[-1] is None:
                held.append(DataKey(len(held) + 1, f"{owner}{len(held)}".encode()))
        return {owner: self.versions[owner][-1] for owner in owners}

    def find(self, wanted):
        return {want: key for want in wanted if (key := self.versions[want[0]][want[1] - 1]) is not None}

    def erase(self, owner):
        self.versions[owner] = [None] * len(self.versions[owner])

    def close(self):
        pass


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def log(tmp_path, keys):
    log = SealedLog(SqliteLog(tmp_path / "log.db"), keys)
    yield log
    keys.gate.set()
    log.close()


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_stored_holds_no_text_and_opens_to_what_was_written(name):
    event = WRITTEN[name]
    stored = seal_event(event, KEY)
    body, headers = encode(stored)
    assert not [text for text in TEXTS if text in body]
    assert open_event(decode(body, headers), KEY) == event


@pytest.mark.parametrize("event", [rating("f1"), retraction("f1"), amendment("f1", {"value": 1})])
def test_what_has_no_text_is_not_sealed(event):
    assert owner_of(event) is None
    assert key_of(event) is None
    assert erased(event) is event


def test_a_completions_text_is_its_users_and_a_comment_its_raters():
    assert owner_of(WRITTEN["completion"]) == Owner("p", "u1")
    assert owner_of(WRITTEN["comment"]) == owner_of(WRITTEN["amendment"]) == Owner("p", "r1")


def test_the_same_event_seals_to_the_same_bytes_and_no_nonce_meets_two_texts():
    event = WRITTEN["comment"]
    assert seal_event(event, KEY).data == seal_event(event.model_copy(update={"time": 9.0}), KEY).data
    others = [
        rating("f1", comment="liked iT"),
        event.model_copy(update={"id": "e-f9"}),
        rating("f1", comment="liked it", rater="r2"),
    ]
    sealed = {seal_event(e, KEY).data.sealed[:18] for e in [event, *others]}  # "1." and the nonce's 16 characters
    assert len(sealed) == 4


@pytest.mark.parametrize("change", [{"id": "e-other"}, {"project": "q"}])
def test_sealed_text_does_not_open_in_another_event(change):
    moved = seal_event(WRITTEN["comment"], KEY).model_copy(update=change)
    with pytest.raises(SealBroken):
        open_event(moved, KEY)


def test_sealed_text_does_not_open_as_another_persons_or_with_another_key_or_altered():
    stored = seal_event(WRITTEN["comment"], KEY)
    other_rater = stored.model_copy(update={"data": stored.data.model_copy(update={"rater": "r2"})})
    altered = stored.model_copy(update={"data": stored.data.model_copy(update={"sealed": stored.data.sealed[:-4] + "AAAA"})})
    for event, key in ((other_rater, KEY), (altered, KEY), (stored, DataKey(1, b"o" * 32))):
        with pytest.raises(SealBroken):
            open_event(event, key)


def test_a_correction_says_something_unless_it_is_sealed():
    target = Target(completion_ids=("x1",))
    with pytest.raises(ValueError, match="text=''"):
        FeedbackSet(feedback_id="f", target=target, rater="r", judgement=Correction(text=""))
    assert FeedbackSet(feedback_id="f", target=target, rater="r", judgement=Correction(text=""), sealed="1.x").sealed


def test_text_is_the_same_whether_it_was_read_before_its_erasure_or_after():
    for event in WRITTEN.values():
        assert erased(event) == erased(seal_event(event, KEY))
        assert erased(event).data.sealed
        assert not [text for text in TEXTS if text in encode(erased(event))[0]]


def test_a_sealed_log_reads_as_it_was_written_and_its_file_holds_no_text(log, tmp_path):
    log.append([*WRITTEN.values(), rating("plain")])
    read = [r.event for topic in ("completions", "feedback") for r in TopicReader(log, topic).drain()]
    assert read == [*WRITTEN.values(), rating("plain")]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"e-x1" in stored
    assert not [text for text in TEXTS if text in stored]


def test_events_of_before_the_sealing_still_read(log):
    log.inner.append([WRITTEN["completion"], WRITTEN["comment"]])
    log.append([rating("new", comment="sealed")])
    read = [r.event.data for topic in ("completions", "feedback") for r in TopicReader(log, topic).drain()]
    assert read[0].text.answer == "answer of x1"
    assert [data.judgement.comment for data in read[1:]] == ["liked it", "sealed"]


def test_a_retry_is_the_same_event_and_another_text_a_conflict(log):
    (first,) = log.append([rating("f1", comment="liked it")])
    assert log.append([rating("f1", comment="liked it", time=999.0)]) == [first]
    assert log.submit(rating("f1", comment="liked it", time=999.0)).result(10) == first
    with pytest.raises(EventConflict):
        log.append([rating("f1", comment="hated it")])


def test_after_its_key_is_destroyed_a_text_is_empty_and_what_is_said_later_has_a_new_key(log, keys):
    log.append([rating("f1", comment="before"), completion("x1")])
    keys.erase(Owner("p", "r1"))
    log.append([rating("f2", comment="after")])
    first, second = (r.event.data for r in TopicReader(log, "feedback").drain())
    assert (first.judgement, first.sealed[:2]) == (Rating(value=1), "1.")
    assert (second.judgement.comment, second.sealed) == ("after", "")
    (other,) = (r.event.data for r in TopicReader(log, "completions").drain())
    assert other.text.answer == "answer of x1"


def test_an_event_whose_key_is_destroyed_can_be_appended_again_and_is_the_same(log, keys):
    (place,) = log.append([rating("f1", comment="gone")])
    keys.erase(Owner("p", "r1"))
    (record,) = TopicReader(log, "feedback").drain()
    assert log.append([record.event]) == [place]
    assert log.submit(record.event).result(10) == place


def test_altered_text_stalls_no_reader(log):
    stored = seal_event(rating("f1", comment="x"), KEY)
    log.append([rating("f0", comment="ok")])
    log.inner.append([stored])
    assert [r.event.data.judgement.comment for r in TopicReader(log, "feedback").drain()] == ["ok", ""]


def test_submitting_never_waits_for_a_key_and_keeps_the_order(log, keys):
    keys.gate.clear()
    futures = [log.submit(e) for e in (rating("f0", comment="needs a key"), rating("f1"), rating("f2", comment="too"))]
    assert not any(future.done() for future in futures)  # nobody behind the first was let through
    keys.gate.set()
    assert [f.result(10).offset for f in futures] == [0, 1, 2]
    assert log.submit(rating("f3", comment="its key is known")).result(10).offset == 3
    texts = [r.event.data.judgement.comment for r in log.read("feedback", partition_of("c1", 12), 0)]
    assert texts == ["needs a key", "", "too", "its key is known"]


def test_without_keys_nothing_is_acknowledged_and_the_log_recovers(log, keys):
    keys.down = True
    with pytest.raises(LogUnavailable, match="no keys"):
        log.append([rating("f1", comment="x")])
    with pytest.raises(LogUnavailable, match="no keys"):
        log.submit(rating("f1", comment="x")).result(10)
    assert log.submit(rating("f2")).result(10).offset == 0
    keys.down = False
    assert log.submit(rating("f1", comment="x")).result(10).offset == 1


def test_whose_key_cannot_be_had_is_refused_and_those_who_wait_behind_are_not(log, keys):
    keys.away = {Owner("p", "new")}
    keys.gate.clear()
    first = log.submit(rating("f0", comment="first"))  # the others come while its key is asked for: they are asked for together
    waiting = [rating("f1", comment="x", rater="new"), rating("f2", comment="known"), rating("f3"), rating("f4", rater="new")]
    futures = [log.submit(event) for event in waiting]
    keys.gate.set()
    assert isinstance(futures[0].exception(10), KeysUnavailable)
    assert [future.result(10).offset for future in [first, *futures[1:]]] == [0, 1, 2, 3]


def test_many_threads_submit_and_nothing_is_lost(log):
    futures: list[Future] = []

    def submit(part: int) -> None:
        futures.extend(log.submit(rating(f"f{part}-{n}", comment="x", rater=f"r{n % 9}", key=f"c{part}")) for n in range(100))

    threads = [threading.Thread(target=submit, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures, 20)
    records = TopicReader(log, "feedback").drain()
    assert len({r.event.id for r in records}) == 400
    for part in range(4):
        mine = [r.event.data.feedback_id for r in records if r.event.key == f"c{part}"]
        assert mine == [f"f{part}-{n}" for n in range(100)]


def test_what_the_log_inside_can_do_more_it_still_can(log):
    assert log.transactions == log.inner.transactions
    assert getattr(log, "forwarder", None) is None


def test_what_is_to_be_redacted_is_so_before_it_is_kept_in_order_and_by_another_thread(tmp_path, keys):
    threads = []

    def redact(text: str) -> str:
        threads.append(threading.current_thread())
        return text.replace("secret", "[secret]")

    log = SealedLog(SqliteLog(tmp_path / "log.db"), keys, redact)
    keys.newest([Owner("p", "r1")])
    futures = [log.submit(rating("f1", comment="a secret")), log.submit(rating("f2"))]
    assert [future.result(10).offset for future in futures] == [0, 1]
    assert threading.current_thread() not in threads
    assert log.append([rating("f1", comment="a secret")])[0].offset == 0
    comments = [r.event.data.judgement.comment for r in TopicReader(log, "feedback").drain()]
    log.close()
    assert comments == ["a [secret]", ""]
