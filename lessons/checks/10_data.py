"""Checks of lesson 10: each calls what you wrote, and says what is wrong with it."""

import builtins
import contextlib


def _refused(candidate, text):
    try:
        candidate(text)
    except ValueError:
        return True
    except NotImplementedError:
        raise
    except Exception:
        return False
    return False


def read_call(candidate):
    right = {"name": "f", "arguments": {"who": "O'Hara", "live": True, "n": None}}
    assert candidate('{"name": "f", "arguments": {"who": "O\'Hara", "live": true, "n": null}}') == right, "JSON"
    found = candidate(str({"arguments": right["arguments"], "name": "f"}))
    assert found == right, f"what Python prints: True, None, and an apostrophe inside a string; you read {found}"
    assert list(found) == ["name", "arguments"], "the name comes first, whatever the order of the data"
    assert candidate("{'name': 'f'}") == {"name": "f", "arguments": {}}, "a call without arguments gets {}"
    attack = "{'name': 'f', 'arguments': {'x': __import__('builtins').__dict__.update(lesson_was_here=1)}}"
    with contextlib.suppress(Exception):  # whatever it raises: what matters first is what it ran
        candidate(attack)
    ran = vars(builtins).pop("lesson_was_here", None)
    assert ran is None, "a text that you read has just run code of its own; parse it, do not evaluate it"
    for text, why in (
        (attack, "a call of a function is not a literal"),
        ("{'name': 'f', 'arguments': {'x': 'ab' * 2}}", "a product is computed; it is no literal"),
        ("{'name': 'f', 'arguments': {'x': [i for i in (1, 2)]}}", "a loop is run; it is no literal"),
        ("{f 1}", "that is neither JSON nor Python"),
        ("[1, 2]", "a list is no call"),
        ("{'arguments': {}}", "a call needs a name"),
    ):
        assert _refused(candidate, text), f"ValueError for {text!r}: {why}"


def targets(candidate):
    ids, learned = [10, 11, 12, 13, 14], [False, False, True, True, False]
    found = list(candidate(ids, learned))
    assert len(found) == 5, f"as many targets as ids, 5, not {len(found)}: nothing follows the last, so it has -100"
    assert found[-1] == -100, "nothing follows the last id"
    assert found[1] == 12, "12 is learned from, and the position that must write it is the one before it, position 1"
    assert found[3] == -100, "14 follows position 3 and is not learned from: the mask moves together with the ids"
    assert found == [-100, 12, 13, -100, -100], f"[-100, 12, 13, -100, -100], not {found}"


def sees(candidate):
    found = [[bool(x) for x in row] for row in candidate([0, 0, 1, 1, -1])]
    assert found[1][0], "position 1 looks at position 0: the same conversation, and earlier"
    assert all(found[i][i] for i in range(4)), "every token looks at itself"
    assert not found[0][1], "position 0 cannot look at position 1, which comes after it"
    assert not found[2][1], "positions 1 and 2 belong to different conversations"
    assert not any(row[4] for row in found), "nobody looks at padding"
    assert not any(found[4]), "padding looks at nothing"
    assert found[3] == [False, False, True, True, False], f"position 3 looks at 2 and 3 only, not {found[3]}"
