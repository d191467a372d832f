"""Checks of lesson 15: each calls what you wrote, and says what is wrong with it."""


def next_bytes(candidate):
    strings = [b"red", b"reddish", b"green", b"grey"]
    assert candidate(strings, b"") == ({ord("r"), ord("g")}, False), "at the start: r or g, and it cannot end"
    assert candidate(strings, b"gre") == ({ord("e"), ord("y")}, False), (
        "after gre: e or y; the other two don't begin so"
    )
    assert candidate(strings, b"red") == ({ord("d")}, True), "after red it may end, or go on to reddish"
    assert candidate(strings, b"grey") == (set(), True), "after grey it can only end"
    assert candidate(strings, b"blue") == (set(), False), "nothing begins with blue: no byte, no end"
    assert candidate(["é".encode()], b"\xc3") == ({0xA9}, False), "bytes, not characters: é is C3 A9"


def allowed(candidate):
    tokens = dict(enumerate([b"f", b"fi", b"find", b"_song", b"_so", b"ng", b"x", b"find_x", b"_song!"]))
    strings = [b"find_song", b"find_sofa"]
    found = candidate(tokens, strings, b"")
    assert found >= {0, 1, 2}, f"f, fi and find all spell a beginning, so all of 0, 1, 2 may come; found {found}"
    assert 7 not in found, "find_x begins well and goes wrong: all bytes of a token count"
    assert found == {0, 1, 2}, f"of the others none spells a beginning; found {found}"
    found = candidate(tokens, strings, b"find")
    assert 8 not in found, "_song! goes on beyond the end of find_song"
    assert found == {3, 4}, f"after find: _song and _so; found {found}"
    assert candidate(tokens, strings, b"find_song") == set(), "after the end no token may come"


def pick(candidate):
    assert candidate([1.0, 5.0, 3.0], {0, 2}) == 2, "of 0 and 2, id 2 has the larger logit"
    assert candidate([-4.0, 9.0, -2.0, -3.0], {0, 2, 3}) == 2, (
        "all allowed logits are negative here; id 2 is the largest"
    )
    assert candidate([2.0, 9.0, 1.0, 3.0], {0, 2, 3}) == 3, "the answer is an id, not a place among the allowed"
