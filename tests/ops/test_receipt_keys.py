from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.errors import SettingsError
from ops.receipt_keys import ReceiptKeys
from ops.secrets import load_secret, subkey
from ops.settings import load_settings

DERIVED = b"d" * 32
DAY = 86_400.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_until_the_first_rotation_the_key_is_derived_from_the_data_folders_secret_and_there_is_no_file(tmp_path: Path):
    settings = load_settings(data_dir=tmp_path)
    keys = ReceiptKeys.of(settings)
    assert keys.newest_first() == (subkey(load_secret(settings), "receipts"),)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_rotation_puts_a_new_key_in_front_in_a_file_for_its_owner_only(tmp_path: Path):
    path = tmp_path / "receipt_keys.json"
    keys = ReceiptKeys(path, DERIVED)
    assert keys.rotate(30, now=100 * DAY) == 1
    first, derived = keys.newest_first()
    assert (len(first), derived) == (32, DERIVED)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.rotate(30, now=101 * DAY) == 2
    assert keys.newest_first()[1:] == (first, DERIVED)
    assert DERIVED.hex() not in path.read_text(), "the data folder's secret stays in its own file"
    assert {p.name for p in tmp_path.iterdir()} == {"receipt_keys.json", "receipt_keys.json.lock"}


def test_a_key_is_dropped_once_no_receipt_it_sealed_can_be_alive(tmp_path: Path):
    keys = ReceiptKeys(tmp_path / "k", DERIVED)
    keys.rotate(30, now=100 * DAY)  # retires the derived one
    keys.rotate(30, now=110 * DAY)  # retires the first
    (second, first, _) = keys.newest_first()
    assert keys.rotate(30, now=130 * DAY + 3599) == 3
    assert keys.rotate(30, now=130 * DAY + 3600) == 3, "the derived one went, the third came"
    assert DERIVED not in keys.newest_first()
    assert keys.newest_first()[-2:] == (second, first)


def test_other_processes_notice_within_a_second_or_at_once_when_asked_and_look_no_more_often(tmp_path: Path):
    clock = Clock()
    writer = ReceiptKeys(tmp_path / "k", DERIVED)
    reader, asked = (ReceiptKeys(tmp_path / "k", DERIVED, clock) for _ in range(2))
    writer.rotate(30, now=DAY)
    clock.now = 0.9
    assert reader.newest_first() == (DERIVED,)
    assert asked.newest_first(at_once=True) == writer.newest_first()
    clock.now = 1.0
    assert reader.newest_first() == writer.newest_first()
    assert reader.newest_first() is reader.newest_first(), "the same tuple until they change"


def test_rotations_at_once_lose_no_key(tmp_path: Path):
    rings = [ReceiptKeys(tmp_path / "k", DERIVED) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda ring: ring.rotate(30, now=DAY), rings))
    after = ReceiptKeys(tmp_path / "k", DERIVED).newest_first()
    assert len(set(after)) == 9
    assert after[-1] == DERIVED


@pytest.mark.parametrize("text", ["", "{", '{"keys": []}', '{"keys": [{"key": "xyz"}]}', '{"keys": [{"key": "00"}]}'])
def test_a_file_that_is_none_is_refused_at_the_start_and_changes_nothing_later(tmp_path: Path, text: str):
    path = tmp_path / "receipt_keys.json"
    keys = ReceiptKeys(path, DERIVED)
    keys.rotate(30, now=DAY)
    before = keys.newest_first()
    path.write_text(text)
    assert keys.newest_first(at_once=True) == before
    with pytest.raises(SettingsError, match=r"receipt_keys\.json"):
        ReceiptKeys(path, DERIVED)
    path.write_text(json.dumps({"keys": [{"key": None}]}))
    assert keys.newest_first(at_once=True) == (DERIVED,)
