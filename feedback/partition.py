"""Which partition a key belongs to: the same one for every writer, whatever its language.

Murmur2 as in Kafka's Java client (``org.apache.kafka.common.utils.Utils.murmur2``), so that any Kafka producer with its
default partitioner puts a key where we do.
"""

from __future__ import annotations

import struct

_WORD = struct.Struct("<I")
_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """The 32-bit MurmurHash2 of ``data``, unsigned, with Kafka's seed."""
    whole = len(data) & ~3
    h = _SEED ^ len(data)
    for (word,) in _WORD.iter_unpack(data[:whole]):
        k = word * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: str, partitions: int) -> int:
    """The partition, from 0 to ``partitions`` - 1, of a key."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
