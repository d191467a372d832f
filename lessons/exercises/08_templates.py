"""Exercises of lesson 8. Replace each `raise` by your code, then: python -m lessons.check 08"""


def merge_system(messages: list[dict], between: str) -> list[dict]:
    """The messages without a system message, for a model that has no such role.

    If the first message is a system message, its content goes to the head of the next message's content, with `between`
    in the middle; otherwise nothing changes. The list that was given, and its messages, stay as they are.
    """
    raise NotImplementedError


def learned_from(tokenizer, ids: list[int]) -> list[bool]:
    """For each id of a conversation in the format `gemma`, whether the model learns from it: the turns of the model,
    from after the line of the role to `<end_of_turn>`, which belongs to them.

    A turn is `<start_of_turn>`, the ids of its role and a line break, what is said, `<end_of_turn>`, and the ids of a
    line break. The ids of the model's role line are tokenizer.encode("model\\n").
    """
    raise NotImplementedError


def escaped(value) -> str:
    """A JSON value in FunctionGemma's notation, without any white space.

    A string is its text between two `<escape>`; an object is {key:value,key:value}, its keys bare; a list is
    [value,value]; numbers are written as they are, True and False as true and false.
    """
    raise NotImplementedError
