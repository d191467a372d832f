"""Checks of lesson 14: each calls what you wrote, and says what is wrong with it."""


def between(candidate):
    assert candidate([5, 6, 7], 1, 2) == [], "without tags there is no call"
    assert candidate([5, 1, 6, 7, 2, 8], 1, 2) == [[6, 7]], "5 [1 6 7 2] 8: between the tags stand 6 and 7"
    assert candidate([1, 6, 2, 9, 1, 7, 2], 1, 2) == [[6], [7]], "there are two calls here"
    assert candidate([2, 5, 1, 6, 2, 2], 1, 2) == [[6]], "a closing tag where nothing is open is passed over"
    assert candidate([1, 2], 1, 2) == [[]], "a call may be empty; reading it will say what is wrong"
    for ids, what in (([1, 6], "left open"), ([1, 6, 2, 1], "left open"), ([1, 6, 1, 7, 2], "begun inside a call")):
        try:
            found = candidate(ids, 1, 2)
        except ValueError:
            continue
        raise AssertionError(f"in {ids}, with tags 1 and 2, a call is {what}: that is a ValueError, not {found}")


def depth(candidate):
    assert candidate("1") == 0, "no brackets, no depth"
    assert candidate('{"a": [1]}') == 2, "a list in an object: 2"
    assert candidate("[[], [], []]") == 2, "three lists side by side in one: 2"
    assert candidate('["[[[", "{"]') == 1, "brackets inside strings are characters"
    assert candidate(r'["\"[[", 1]') == 1, "a quote behind a backslash does not end the string"
    assert candidate(r'["\\", [1]]') == 2, (
        "a backslash behind a backslash is a character; then the quote ends the string"
    )
    assert candidate("[" * 200_000) == 200_000, "200,000 brackets must be counted, too"


def canonical(candidate):
    tool = {"name": "f", "parameters": {"properties": {"when": {}, "city": {}}}}
    written = candidate("f", {"city": "Zürich", "when": 3}, tool)
    assert "Zürich" in written, "characters are written as they are: ensure_ascii=False"
    assert written == '{"name": "f", "arguments": {"when": 3, "city": "Zürich"}}', (
        f"the schema lists when first: {written}"
    )
    assert candidate("f", {}, tool) == '{"name": "f", "arguments": {}}', "no arguments are an empty object"
    more = candidate("f", {"z": 1, "a": 2, "city": "Rome"}, tool)
    assert more == '{"name": "f", "arguments": {"city": "Rome", "z": 1, "a": 2}}', f"unlisted ones come last: {more}"
