"""Checks of lesson 16: each calls what you wrote, and says what is wrong with it."""

from typing import Literal


def _lamp(room: str, colour: Literal["red", "white"], percent: int = 100, warmth: float = 0.5, on: bool = True) -> str:
    """Set a lamp.

    It stays so.
    """
    return f"{room} {colour} {percent} {warmth} {on}"


def schema(candidate):
    made = candidate(_lamp)
    assert made["name"] == "_lamp", "the name is the function's own: function.__name__"
    assert made["description"] == "Set a lamp.", (
        f"the description is the docstring's first line, not {made['description']!r}"
    )
    parameters = made["parameters"]
    assert parameters["type"] == "object", "parameters are of type object"
    properties = parameters["properties"]
    assert list(properties) == ["room", "colour", "percent", "warmth", "on"], (
        f"its parameters are not {list(properties)}"
    )
    assert properties["room"] == {"type": "string"}, "a str is of type string in JSON Schema"
    assert properties["colour"] == {"enum": ["red", "white"]}, "a Literal is an enum of its values"
    kinds = [properties[name]["type"] for name in ("percent", "warmth", "on")]
    assert kinds == ["integer", "number", "boolean"], f"int, float, bool are integer, number, boolean, not {kinds}"
    assert parameters["required"] == ["room", "colour"], "percent, warmth and on have defaults: they are not required"


def fault(candidate):
    properties = {"room": {"type": "string"}, "percent": {"type": "integer"}, "warmth": {"type": "number"}}
    properties |= {"on": {"type": "boolean"}, "colour": {"enum": ["red", "white"]}}
    parameters = {"properties": properties, "required": ["room"]}
    fine = {"room": "hall"}
    assert candidate(fine, parameters) is None, "only room is required"
    assert candidate(fine | {"percent": 3, "warmth": 1, "colour": "red"}, parameters) is None, "1 is a number, too"
    assert candidate(fine | {"on": True}, parameters) is None, "True is a boolean"
    for arguments, name, why in (
        ({}, "room", "it is required and missing"),
        (fine | {"percent": "3"}, "percent", "a string is no integer"),
        (fine | {"percent": True}, "percent", "True is no integer in JSON, although it is an int in Python"),
        (fine | {"warmth": False}, "warmth", "False is no number"),
        (fine | {"on": 1}, "on", "1 is no boolean"),
        (fine | {"colour": "blue"}, "colour", "it is not in the enum"),
        (fine | {"size": 1}, "size", "there is no such property"),
    ):
        found = candidate(arguments, parameters)
        assert found is not None, f"{arguments}: {name} is wrong: {why}"
        assert name in str(found), f"{arguments}: the sentence must name {name}, it says {found!r}"


def converse(candidate):
    def speak(*turns):
        """A model that says these things, the last of them again and again; at most 50 turns."""
        heard = []

        def say(messages):
            heard.append([dict(message) for message in messages])
            assert len(heard) < 50, "the model was asked 50 times; where is the bound?"
            content, calls = turns[min(len(heard), len(turns)) - 1]
            asked = [{"name": name, "arguments": arguments} for name, arguments in calls]
            return {"role": "assistant", "content": content, "tool_calls": asked}

        return say, heard

    tools = {"double": lambda x: 2 * x, "fail": lambda: 1 / 0}
    say, heard = speak(("Hello!", []))
    messages = candidate(say, tools, "Hi.", 5)
    assert [m["role"] for m in messages] == ["user", "assistant"], "without a call the first turn is the answer"

    say, heard = speak(("", [("double", {"x": 4}), ("double", {"x": 5})]), ("8 and 10.", []))
    messages = candidate(say, tools, "Double 4 and 5.", 5)
    roles = [m["role"] for m in messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant"], f"two calls, two results, an answer: {roles}"
    assert [m["content"] for m in messages if m["role"] == "tool"] == [8, 10], "the results come in the calls' order"
    assert [m["role"] for m in heard[1]] == roles[:-1], "when it speaks again, the model sees its calls and the results"

    say, heard = speak(("", [("fail", {}), ("nothing", {}), ("double", {"y": 1})]), ("Sorry.", []))
    try:
        messages = candidate(say, tools, "Fail.", 5)
    except Exception as error:
        raise AssertionError(f"a tool's {type(error).__name__} came out; it belongs into the conversation") from None
    results = [m["content"] for m in messages if m["role"] == "tool"]
    wrong = [result for result in results if not (isinstance(result, dict) and "error" in result)]
    assert len(results) == 3, "each of the three calls has its result"
    assert not wrong, f"a call that fails has {{'error': ...}} as its result, not {wrong}"

    say, heard = speak(("", [("double", {"x": 1})]))
    messages = candidate(say, tools, "Again!", 3)
    assert len(heard) == 3, f"most_turns is 3, and the model was asked {len(heard)} times"
    roles = [m["role"] for m in messages]
    assert roles == ["user", *["assistant", "tool"] * 3], f"at the bound, what was said so far is given back: {roles}"
