"""Solutions of lesson 15, and mistakes that its checks must find."""


def next_bytes(strings, written):
    fitting = [string for string in strings if string.startswith(written)]
    return {string[len(written)] for string in fitting if len(string) > len(written)}, written in fitting


def next_bytes__looks_only_at_the_length(strings, written):
    longer = [string for string in strings if len(string) > len(written)]
    return {string[len(written)] for string in longer}, written in strings


def next_bytes__ends_only_where_nothing_can_follow(strings, written):
    fitting = [string for string in strings if string.startswith(written) and string != written]
    return {string[len(written)] for string in fitting}, not fitting and written in strings


def next_bytes__ends_anywhere_in_the_right_way(strings, written):
    fitting = [string for string in strings if string.startswith(written)]
    return {string[len(written)] for string in fitting if len(string) > len(written)}, bool(fitting)


def allowed(tokens, strings, written):
    return {id_ for id_, text in tokens.items() if any(string.startswith(written + text) for string in strings)}


def allowed__looks_at_the_first_byte(tokens, strings, written):
    longer = [string for string in strings if string.startswith(written) and len(string) > len(written)]
    first = {string[len(written)] for string in longer}
    return {id_ for id_, text in tokens.items() if text[0] in first}


def allowed__lets_a_token_reach_beyond_the_end(tokens, strings, written):
    rests = [string[len(written) :] for string in strings if string.startswith(written)]
    return {id_ for id_, text in tokens.items() if any(r and (text.startswith(r) or r.startswith(text)) for r in rests)}


def allowed__finds_it_anywhere(tokens, strings, written):
    rests = [string[len(written) :] for string in strings if string.startswith(written)]
    return {id_ for id_, text in tokens.items() if any(text in rest for rest in rests)}


def allowed__takes_the_longest_only(tokens, strings, written):
    fits = {id_: text for id_, text in tokens.items() if any(s.startswith(written + text) for s in strings)}
    return {id_ for id_, text in fits.items() if len(text) == max(map(len, fits.values()))}


def pick(logits, ids):
    return max(ids, key=lambda id_: logits[id_])


def pick__sets_the_others_to_zero(logits, ids):
    masked = [logit if id_ in ids else 0.0 for id_, logit in enumerate(logits)]
    return masked.index(max(masked))


def pick__takes_the_largest_and_hopes(logits, ids):
    best = logits.index(max(logits))
    return best if best in ids else min(ids)


def pick__counts_within_the_allowed(logits, ids):
    kept = [logits[id_] for id_ in sorted(ids)]
    return kept.index(max(kept))
