"""Solutions of lesson 1, and mistakes that its checks must find."""


def oldest_pair(pieces, rank):
    places = [i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) in rank]
    return min(places, key=lambda i: rank[pieces[i], pieces[i + 1]], default=None)


def oldest_pair__takes_the_first_from_the_left(pieces, rank):
    return next((i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) in rank), None)


def oldest_pair__takes_the_youngest(pieces, rank):
    places = [i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) in rank]
    return max(places, key=lambda i: rank[pieces[i], pieces[i + 1]], default=None)


def byte_pieces(character):
    return [f"<0x{byte:02X}>" for byte in character.encode("utf-8")]


def byte_pieces__writes_the_number_of_the_character(character):
    return [f"<0x{ord(character):02X}>"]


def byte_pieces__forgets_the_leading_zero(character):
    return [f"<0x{byte:X}>" for byte in character.encode("utf-8")]


def turn(tokenizer, role, content):
    start = tokenizer.encode(f"<start_of_turn>{role}\n", control_tokens=True)
    return start + tokenizer.encode(content) + tokenizer.encode("<end_of_turn>\n", control_tokens=True)


def turn__encodes_it_in_one_piece(tokenizer, role, content):
    return tokenizer.encode(f"<start_of_turn>{role}\n{content}<end_of_turn>\n", control_tokens=True)


def turn__deletes_what_looks_like_a_marker(tokenizer, role, content):
    for name in tokenizer.control:
        content = content.replace(name, "")
    return turn(tokenizer, role, content)


def turn__leaves_out_the_last_line_break(tokenizer, role, content):
    start = tokenizer.encode(f"<start_of_turn>{role}\n", control_tokens=True)
    return start + tokenizer.encode(content) + [tokenizer.control["<end_of_turn>"]]
