"""Checks of lesson 17: each calls what you wrote, and says what is wrong with it."""


def wilson(candidate):
    low, high = candidate(20, 20)
    assert high <= 1 + 1e-9, f"20 of 20: a share cannot be above 1, but the interval reaches {high:.3f}"
    assert low < 0.99, f"20 of 20: the interval begins at {low:.3f}, as if there were no doubt"
    assert abs(low - 0.8389) < 1e-3, f"20 of 20: the interval begins at 0.839, not {low:.3f}"
    low, high = candidate(5, 10)
    assert abs(low - 0.2366) < 1e-3, f"5 of 10: from 0.237, not {low:.3f}"
    assert abs(high - 0.7634) < 1e-3, f"5 of 10: to 0.763, not {high:.3f}"
    for p in candidate(30, 40):
        assert abs((0.75 - p) ** 2 - 1.96**2 * p * (1 - p) / 40) < 1e-9, f"p = {p:.3f} does not solve the equation"
    wide, narrow = candidate(30, 40, z=2.576), candidate(30, 40)
    assert wide[0] < narrow[0], "with z = 2.576, for 99 percent, the interval is wider"


def exact(candidate):
    a, b = ("find_song", {"singer": "Nina"}), ("find_song", {"singer": "Omar"})
    assert candidate([a], [a]), "the same call is exact"
    assert candidate([], []), "nothing was wanted and nothing called: exact"
    assert not candidate([b], [a]), "the same tool with another singer is another call"
    assert candidate([b, a], [a, b]), "the order does not count"
    assert not candidate([a, b], [a]), "one call too many"
    assert not candidate([a], [a, b]), "one call is missing"
    assert not candidate([a, a, b], [a, b, b]), "each call as often as it is wanted"
    calls, wanted = [a, b], [b, a]
    candidate(calls, wanted)
    assert (calls, wanted) == ([a, b], [b, a]), "the lists were changed"


def false_shares(candidate):
    fits, called = [True] * 4 + [False] * 10, [True, True, True, False] + [True] * 2 + [False] * 8
    refusals, calls = candidate(fits, called)
    assert abs(refusals - 0.25) < 1e-9, f"4 questions had a tool, 1 of them was refused: 25%, not {refusals:.0%}"
    assert abs(calls - 0.2) < 1e-9, f"10 questions had none, 2 of them were answered by a call: 20%, not {calls:.0%}"
    assert candidate([True, False], [False, True]) == (1.0, 1.0), "everything wrong: 100% and 100%"
    assert candidate([True, False], [True, False]) == (0.0, 0.0), "everything right: 0% and 0%"
