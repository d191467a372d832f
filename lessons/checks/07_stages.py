"""Checks of lesson 7: each calls what you wrote, and says what is wrong with it."""

import torch


class _Parrot:
    """A model of five ids that expects each token to be followed by the next number, with chances one knows."""

    def __call__(self, ids):
        scores = torch.full((*ids.shape, 5), 2.0)
        return scores.scatter(-1, (ids[..., None] + 1) % 5, 4.0)


def surprise(candidate):
    chances = torch.tensor([2.0, 2.0, 2.0, 2.0, 4.0]).log_softmax(-1)
    expected, other = -float(chances[4]), -float(chances[0])

    def near(found, right):
        return abs(float(found) - right) < 1e-4

    found = candidate(_Parrot(), [0, 1, 2, 3], [False, True, True, True])
    assert not near(found, -4.0), "-4 is minus a score; a chance needs log_softmax over all ids first"
    assert near(found, expected), (
        f"every token is the one the model expects, {expected:.3f} nats each, not {float(found):.3f}; "
        "what stands at one position is predicted at the position before"
    )
    found = candidate(_Parrot(), [0, 1, 3, 4], [False, False, True, False])
    assert near(found, other), f"only the 3 counts, and after 1 the model expects 2: {other:.3f} nats, not {found:.3f}"
    found = candidate(_Parrot(), [0, 2, 3, 4], [True, False, True, True])
    assert near(found, expected), "the first token follows nothing: it never counts, whatever `learned` says of it"


def outcome(candidate):
    nina, reno = ("find_song", {"singer": "Nina"}), ("find_song", {"singer": "Reno"})
    cases = [
        ([nina], [nina], "exact", "the right call"),
        ([], [], "right refusal", "none wanted, none written"),
        ([], [nina], "false refusal", "one wanted, none written"),
        ([nina], [], "false call", "none wanted, one written"),
        ([reno], [nina], "wrong call", "the right name with other arguments"),
        ([nina, reno], [nina], "wrong call", "the right call and one more"),
        ([nina], [nina, reno], "wrong call", "one of two"),
        ([nina, nina], [nina, reno], "wrong call", "one of two, twice"),
        ([reno, nina], [nina, reno], "wrong call", "the right calls in the wrong order"),
        ([("f", {"a": 1, "b": 2})], [("f", {"b": 2, "a": 1})], "exact", "the same arguments in another order"),
    ]
    for called, wanted, right, what in cases:
        found = candidate(called, wanted)
        assert found == right, f"{what}: {right!r}, not {found!r}"
