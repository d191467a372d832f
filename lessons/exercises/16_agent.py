"""Exercises of lesson 16. Replace each `raise` by your code, then: python -m lessons.check 16"""

from collections.abc import Callable


def schema(function: Callable) -> dict:
    """What a model is told of a function: {"name", "description", "parameters"}.

    The description is the first line of the docstring. Parameters are
    {"type": "object", "properties": {...}, "required": [...]}: hints str, int, float and bool are the types
    "string", "integer", "number" and "boolean"; Literal["a", "b"] is {"enum": ["a", "b"]}. A parameter with a default
    is not required.
    """
    raise NotImplementedError


def fault(arguments: dict, parameters: dict) -> str | None:
    """What is wrong with a call's arguments, as a sentence that names the argument; None if nothing is.

    Wrong are: a required one that is missing, one that is not among the properties, a value of another type, and
    a value outside its enum. True is no integer and no number; a whole number is a "number", too.
    """
    raise NotImplementedError


def converse(say: Callable, tools: dict[str, Callable], question: str, most_turns: int) -> list[dict]:
    """The conversation that begins with the question and ends with the model's answer, as messages.

    The first is {"role": "user", "content": question}. `say(messages)` is the model: given all messages so far, it
    returns its next one, {"role": "assistant", "content", "tool_calls"}, with calls as {"name", "arguments"}. Each call
    is run, in order, and its result becomes a message {"role": "tool", "content": what the function returns}; where a
    function raises, or is not there, the content is {"error": some words}. A message without calls is the answer. The
    model speaks at most `most_turns` times; then the conversation is given back without an answer.
    """
    raise NotImplementedError
