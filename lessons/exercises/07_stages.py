"""Exercises of lesson 7. Replace each `raise` by your code, then: python -m lessons.check 07"""


def surprise(model, ids: list[int], learned: list[bool]) -> float:
    """The mean surprise, in nats, of those tokens of a text that are learned from.

    The surprise of a token is -log p, where p is the chance that the model gives it after all the tokens before it.
    `learned` says for each of `ids` whether it counts. The first token follows nothing, so it never counts.
    `model` takes ids as a tensor [B, T] and gives logits [B, T, V]: those at a position score the token after it.
    """
    raise NotImplementedError


def outcome(called: list[tuple[str, dict]], wanted: list[tuple[str, dict]]) -> str:
    """What came of a question, from the calls that the model wrote and the calls that were right.

    A call is (name, arguments). The answer is one of:
        "exact"          the right calls in their order and no others; the order of the arguments does not count
        "right refusal"  no call was wanted and none was written
        "false refusal"  a call was wanted and none was written
        "false call"     none was wanted and one was written
        "wrong call"     a call was wanted, and what was written is another, or more, or fewer
    """
    raise NotImplementedError
