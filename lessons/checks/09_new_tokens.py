"""Checks of lesson 9: each calls what you wrote, and says what is wrong with it."""

import torch
from lesson import MODEL

import minifc


def encode_with(candidate):
    tokenizer = minifc.load_tokenizer(MODEL)
    size = tokenizer.size
    new = {"<a>": size, "<a>b": size + 1, "<x|y>": size + 2}
    plain = "Find a song."
    assert candidate(tokenizer, plain, new) == tokenizer.encode(plain), "a text without new tokens keeps its ids"
    right = [size, *tokenizer.encode(" song "), size + 2]
    assert candidate(tokenizer, "<a> song <x|y>", new) == right, (
        "text between new tokens keeps its ids, and a | in a spelling is just a |"
    )
    assert candidate(tokenizer, "<a>b", new) == [size + 1], (
        "<a> and <a>b begin at the same place: the longer one counts"
    )
    assert candidate(tokenizer, "<a><a>", new) == [size, size], "two beside each other"


def lookup(candidate):
    torch.manual_seed(0)
    table, rows = torch.randn(7, 3), torch.randn(4, 3, requires_grad=True)
    ids = torch.tensor([0, 6, 7, 10, 8, 3])
    found = candidate(table, rows, ids)
    assert found.shape == (6, 3), f"[T, E] is (6, 3), not {tuple(found.shape)}"
    assert torch.equal(found[[0, 1, 5]], table[[0, 6, 3]]), "old ids read from the old table"
    wanted = rows[[0, 3, 1]]
    assert torch.equal(found[2:5], wanted), "with V = 7, ids 7, 10 and 8 are rows 0, 3 and 1 of the new table"
    assert found.requires_grad, "the result has no gradient: the new rows could not be trained"
    found.sum().backward()
    assert rows.grad is not None, "no gradient reaches the new rows"
    assert rows.grad[:, 0].tolist() == [1, 1, 0, 1], "the gradient belongs to the rows that were read, 0, 1 and 3"
    vast = torch.zeros(1, 1).expand(2**40, 3)  # one number in memory; a copy of it would need 12 terabytes
    try:
        found = candidate(vast, rows, torch.tensor([0, 2**40 + 1]))
    except (RuntimeError, MemoryError):
        raise AssertionError("the old table is copied; read the old ids from it and the new ones from `rows`") from None
    assert torch.equal(found[1], rows[1]), "behind a table of 2**40 rows, id 2**40 + 1 is row 1 of the new ones"


def registered_in_vain(candidate):
    registered = ["<tool_reponse>", "</tool_reponse>", "<think>", "</think>"]
    texts = ["<think>Hm.</think>", "<tool_response>\n12 < 13\n</tool_response>"]
    vain, missing = candidate(registered, texts)
    assert vain == ["</tool_reponse>", "<tool_reponse>"], f"registered in vain are both spellings with -reponse: {vain}"
    assert missing == ["</tool_response>", "<tool_response>"], f"in the texts and not registered, sorted: {missing}"
    vain, missing = candidate(["<tool>"], ["<tools>"])
    assert (vain, missing) == (["<tool>"], ["<tools>"]), "<tool> does not occur in <tools>: a tag is all of it"
    assert candidate(["<a>"], ["x", "<a>"]) == ([], []), "all texts count, not only the first"
