"""Checks of lesson 6: each calls what you wrote, and says what is wrong with it."""


def cut_tail(candidate):
    chances = [0.1, 0.5, 0.15, 0.25]
    assert candidate(chances, 0.6) == [1, 3], "0.5 is not 0.6 yet; with 0.25 it is reached, and that one is kept"
    assert candidate(chances, 0.5) == [1], "0.5 is reached with the first: nothing more is kept"
    assert candidate(chances, 0.01) == [1], "however small p is, the likeliest is kept"
    assert candidate(chances, 1.0) == [1, 3, 2, 0], "with p = 1 all are kept, the likeliest first"
    assert candidate([0.25, 0.25, 0.5], 0.6) in ([2, 0], [2, 1]), "of two that are equally likely, one is enough here"


def ring(candidate):
    assert candidate(["a", "b"], 4) == ["a", "b"], "two tokens in a ring of 4: two places are used"
    assert candidate(["a", "b", "c", "d"], 4) == ["a", "b", "c", "d"], "four tokens just fill a ring of 4"
    found = candidate(list("abcdef"), 4)
    assert len(found) == 4, f"a ring of 4 has four places, not {len(found)}"
    assert set(found) == set("cdef"), "the last four tokens are in it: what has gone out of sight is overwritten"
    assert found == ["e", "f", "c", "d"], "e is token 4 (we count from 0) and goes into place 4 modulo 4, over a"
    assert candidate(list("abcdefghijk"), 3) == ["j", "k", "i"], "the ring goes round as often as it must"


def computed(candidate):
    assert candidate(10, 1, True) == 10, "one token written: the question is computed, and the token is never read"
    assert candidate(10, 1, False) == 10, "one token written: without a cache it is the same"
    assert candidate(10, 3, True) == 12, "three written after 10: 10 for the question, then two more are read"
    assert candidate(10, 3, False) == 33, "three written after 10, without a cache: 10 + 11 + 12"
    assert candidate(7, 0, True) == 0, "nothing is to be written: nothing is computed"
    assert candidate(69, 100, False) == sum(range(69, 169)), "each time one token more than before"
