"""Solutions of lesson 6, and mistakes that its checks must find."""


def cut_tail(chances, p):
    kept, together = [], 0.0
    for id_ in sorted(range(len(chances)), key=lambda id_: -chances[id_]):
        if together >= p:
            break
        kept.append(id_)
        together += chances[id_]
    return kept


def cut_tail__drops_the_one_that_crosses(chances, p):
    kept, together = [], 0.0
    for id_ in sorted(range(len(chances)), key=lambda id_: -chances[id_]):
        together += chances[id_]
        if together > p:
            break
        kept.append(id_)
    return kept


def cut_tail__keeps_all_above_a_threshold(chances, p):
    order = sorted(range(len(chances)), key=lambda id_: -chances[id_])
    return [id_ for id_ in order if chances[id_] >= 1 - p]


def ring(tokens, window):
    places = []
    for number, token in enumerate(tokens):
        if number < window:
            places.append(token)
        else:
            places[number % window] = token
    return places


def ring__moves_everything_up(tokens, window):
    return tokens[-window:]


def ring__keeps_the_first(tokens, window):
    return tokens[:window]


def ring__begins_anew_when_full(tokens, window):
    places = []
    for token in tokens:
        if len(places) == window:
            places = []
        places.append(token)
    return places


def computed(read, written, cached):
    if not written:
        return 0
    return read + written - 1 if cached else sum(read + i for i in range(written))


def computed__reads_the_last_token_too(read, written, cached):
    if not written:
        return 0
    return read + written if cached else sum(read + i for i in range(written + 1))


def computed__forgets_the_question(read, written, cached):
    if not written:
        return 0
    return written if cached else read * written


def computed__takes_the_cache_for_free(read, written, cached):
    if not written:
        return 0
    return read if cached else sum(read + i for i in range(written))
