"""Solutions of lesson 10, and mistakes that its checks must find."""

import ast
import json


def read_call(text):
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text.strip())
        except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(f"neither JSON nor a literal: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a call is an object with a name")
    return {"name": value["name"], "arguments": value.get("arguments", {})}


def read_call__evaluates_it(text):
    value = eval(text, {"true": True, "false": False, "null": None})
    if not isinstance(value, dict) or "name" not in value:
        raise ValueError("a call is an object with a name")
    return {"name": value["name"], "arguments": value.get("arguments", {})}


def read_call__evaluates_it_without_the_builtins(text):
    try:
        value = eval(text, {"__builtins__": {}, "true": True, "false": False, "null": None})
    except Exception as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, dict) or "name" not in value:
        raise ValueError("a call is an object with a name")
    return {"name": value["name"], "arguments": value.get("arguments", {})}


def read_call__replaces_the_quotes(text):
    value = json.loads(text.replace("'", '"').replace("True", "true").replace("False", "false").replace("None", "null"))
    if not isinstance(value, dict) or "name" not in value:
        raise ValueError("a call is an object with a name")
    return {"name": value["name"], "arguments": value.get("arguments", {})}


def read_call__keeps_the_order_of_the_data(text):
    call = read_call(text)
    return call if text.find("name") < text.find("arguments") else dict(reversed(call.items()))


def read_call__lets_anything_through(text):
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


def targets(ids, learned):
    return [id_ if wanted else -100 for id_, wanted in zip(ids[1:], learned[1:], strict=True)] + [-100]


def targets__does_not_move(ids, learned):
    return [id_ if wanted else -100 for id_, wanted in zip(ids, learned, strict=True)]


def targets__moves_the_ids_and_not_the_mask(ids, learned):
    return [id_ if wanted else -100 for id_, wanted in zip(ids[1:], learned[:-1], strict=True)] + [-100]


def targets__is_one_too_short(ids, learned):
    return [id_ if wanted else -100 for id_, wanted in zip(ids[1:], learned[1:], strict=True)]


def sees(documents):
    places = range(len(documents))
    return [[j <= i and documents[i] == documents[j] != -1 for j in places] for i in places]


def sees__looks_ahead(documents):
    places = range(len(documents))
    return [[documents[i] == documents[j] != -1 for j in places] for i in places]


def sees__forgets_the_documents(documents):
    places = range(len(documents))
    return [[j <= i and documents[j] != -1 and documents[i] != -1 for j in places] for i in places]


def sees__takes_padding_for_a_document(documents):
    places = range(len(documents))
    return [[j <= i and documents[i] == documents[j] for j in places] for i in places]
