"""Merkle tree of a list, as in RFC 6962, section 2.1: one hash stands for all entries.

Hashes of leaves and of nodes begin with different bytes, so that no node can be passed off as an entry. Entries are bytes,
hashes are 32 bytes of SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

Hash = bytes


def leaf_hash(entry: bytes) -> Hash:
    return hashlib.sha256(b"\0" + entry).digest()


def root(leaves: Sequence[Hash]) -> Hash:
    """Of the leaves' hashes, in their order; of no leaves, the hash of nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:  # the last of an odd number goes up as it is: the same tree as the RFC's, from below
        level = [_node(*level[at : at + 2]) if at + 1 < len(level) else level[at] for at in range(0, len(level), 2)]
    return level[0]


def _node(left: Hash, right: Hash) -> Hash:
    return hashlib.sha256(b"\1" + left + right).digest()
