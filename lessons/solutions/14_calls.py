"""Solutions of lesson 14, and mistakes that its checks must find."""

import json


def between(ids, opening, closing):
    found, run = [], None
    for id_ in ids:
        if id_ == opening:
            if run is not None:
                raise ValueError("a call inside a call")
            run = []
        elif id_ == closing:
            if run is not None:
                found.append(run)
            run = None
        elif run is not None:
            run.append(id_)
    if run is not None:
        raise ValueError("a call is not closed")
    return found


def between__keeps_what_is_not_closed(ids, opening, closing):
    found, run = [], None
    for id_ in ids:
        if id_ == opening:
            run = []
            found.append(run)
        elif id_ == closing:
            run = None
        elif run is not None:
            run.append(id_)
    return found


def between__finds_the_first_only(ids, opening, closing):
    if opening not in ids:
        return []
    start = ids.index(opening)
    return [ids[start + 1 : ids.index(closing, start)]]


def between__starts_again_inside(ids, opening, closing):
    found, run = [], None
    for id_ in ids:
        if id_ == opening:
            run = []
        elif id_ == closing:
            found += [run] if run is not None else []
            run = None
        elif run is not None:
            run.append(id_)
    if run is not None:
        raise ValueError("a call is not closed")
    return found


def depth(text):
    deepest = now = 0
    quoted = escaped = False
    for c in text:
        if quoted:
            quoted = escaped or c != '"'
            escaped = c == "\\" and not escaped
        elif c == '"':
            quoted = True
        elif c in "[{":
            now += 1
            deepest = max(deepest, now)
        elif c in "]}":
            now -= 1
    return deepest


def depth__counts_brackets_in_strings(text):
    deepest = now = 0
    for c in text:
        now += (c in "[{") - (c in "]}")
        deepest = max(deepest, now)
    return deepest


def depth__does_not_know_the_backslash(text):
    deepest = now = 0
    quoted = False
    for c in text:
        quoted ^= c == '"'
        now += 0 if quoted else (c in "[{") - (c in "]}")
        deepest = max(deepest, now)
    return deepest


def depth__counts_all_brackets(text):
    return sum(c in "[{" for c in text)


def canonical(name, arguments, tool):
    order = [key for key in tool["parameters"]["properties"] if key in arguments]
    order += [key for key in arguments if key not in order]
    return json.dumps({"name": name, "arguments": {key: arguments[key] for key in order}}, ensure_ascii=False)


def canonical__keeps_the_order_given(name, arguments, tool):
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def canonical__sorts_by_the_alphabet(name, arguments, tool):
    return json.dumps({"name": name, "arguments": dict(sorted(arguments.items()))}, ensure_ascii=False)


def canonical__escapes_what_is_not_ascii(name, arguments, tool):
    order = [key for key in tool["parameters"]["properties"] if key in arguments]
    order += [key for key in arguments if key not in order]
    return json.dumps({"name": name, "arguments": {key: arguments[key] for key in order}})


def canonical__drops_what_is_not_listed(name, arguments, tool):
    order = [key for key in tool["parameters"]["properties"] if key in arguments]
    return json.dumps({"name": name, "arguments": {key: arguments[key] for key in order}}, ensure_ascii=False)
