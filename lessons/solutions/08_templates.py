"""Solutions of lesson 8, and mistakes that its checks must find."""

import json


def merge_system(messages, between):
    if messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [{**first, "content": system["content"] + between + first["content"]}, *rest]


def merge_system__drops_it(messages, between):
    return [message for message in messages if message["role"] != "system"]


def merge_system__changes_the_callers_messages(messages, between):
    if messages[0]["role"] != "system":
        return messages
    messages[1]["content"] = messages[0]["content"] + between + messages[1]["content"]
    return messages[1:]


def merge_system__takes_one_from_anywhere(messages, between):
    system = next((m["content"] + between for m in messages if m["role"] == "system"), "")
    first, *rest = [message for message in messages if message["role"] != "system"]
    return [{**first, "content": system + first["content"]}, *rest]


def merge_system__always_puts_something_between(messages, between):
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    first, *rest = [message for message in messages if message["role"] != "system"]
    return [{**first, "content": system + between + first["content"]}, *rest]


def learned_from(tokenizer, ids):
    start, end = tokenizer.control["<start_of_turn>"], tokenizer.control["<end_of_turn>"]
    role = tokenizer.encode("model\n")
    mask = [False] * len(ids)
    learning = False
    for place in range(len(ids)):
        head = place - len(role) - 1
        if head >= 0 and ids[head] == start and ids[head + 1 : place] == role:
            learning = True
        mask[place] = learning
        if ids[place] == end:
            learning = False
    return mask


def learned_from__leaves_the_end_out(tokenizer, ids):
    end = tokenizer.control["<end_of_turn>"]
    return [learned and id_ != end for learned, id_ in zip(learned_from(tokenizer, ids), ids, strict=True)]


def learned_from__learns_the_role_too(tokenizer, ids):
    start, end = tokenizer.control["<start_of_turn>"], tokenizer.control["<end_of_turn>"]
    role = tokenizer.encode("model\n")
    mask, learning = [], False
    for place, id_ in enumerate(ids):
        if id_ == start:
            learning = ids[place + 1 : place + 1 + len(role)] == role
        mask.append(learning)
        if id_ == end:
            learning = False
    return mask


def learned_from__believes_the_word_model_anywhere(tokenizer, ids):
    end, role = tokenizer.control["<end_of_turn>"], tokenizer.encode("model\n")
    mask, learning = [], False
    for place, id_ in enumerate(ids):
        learning = learning or ids[max(0, place - len(role)) : place] == role
        mask.append(learning)
        if id_ == end:
            learning = False
    return mask


def escaped(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{escaped(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(escaped(inner) for inner in value) + "]"
    return f"<escape>{value}<escape>" if isinstance(value, str) else json.dumps(value)


def escaped__writes_booleans_as_python_does(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{escaped__writes_booleans_as_python_does(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(escaped__writes_booleans_as_python_does, value)) + "]"
    return f"<escape>{value}<escape>" if isinstance(value, str) else str(value)


def escaped__replaces_the_quotes_of_json(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace('"', "<escape>")


def escaped__escapes_numbers_too(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{escaped__escapes_numbers_too(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(escaped__escapes_numbers_too, value)) + "]"
    return f"<escape>{value}<escape>"
