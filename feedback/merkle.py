"""Merkle tree of a list, as in RFC 6962, section 2.1: one hash stands for all entries, and a short path proves one of them.

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


def inclusion_proof(leaves: Sequence[Hash], index: int) -> list[Hash]:
    """The audit path of leaf ``index``, from below. Raises IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root(leaves[:split])]


def proves(leaf: Hash, index: int, size: int, path: Sequence[Hash], tree: Hash) -> bool:
    """Whether the path shows that ``leaf`` is entry ``index`` of the ``size`` entries whose root is ``tree``."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for sibling in path:  # RFC 9162, section 2.1.3.2
        if last == 0:
            return False
        if at % 2 or at == last:
            found = _node(sibling, found)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            found = _node(found, sibling)
        at, last = at // 2, last // 2
    return last == 0 and found == tree


def _node(left: Hash, right: Hash) -> Hash:
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1
