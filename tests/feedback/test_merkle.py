from __future__ import annotations

import hashlib

from feedback.merkle import leaf_hash, root

ENTRIES = [bytes.fromhex(each) for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "60" * 16)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def test_the_root_of_nothing_is_the_hash_of_nothing():
    assert root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_roots_are_those_of_certificate_transparency():
    # the first entries of the reference tree of RFC 6962's authors
    assert root(LEAVES[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(LEAVES[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root(LEAVES[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert root(LEAVES[:7]).hex() == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"


def test_the_tree_of_five_is_split_after_four():
    left = node(node(LEAVES[0], LEAVES[1]), node(LEAVES[2], LEAVES[3]))
    assert root(LEAVES[:5]) == node(left, LEAVES[4])


def test_a_node_is_no_entry():
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node(LEAVES[0], LEAVES[1])
    assert root([leaf_hash(LEAVES[0] + LEAVES[1])]) != root(LEAVES[:2])


def test_the_order_counts():
    assert root(LEAVES[:2]) != root(LEAVES[1::-1])
