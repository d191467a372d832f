"""Checks of lesson 18: each calls what you wrote, and says what is wrong with it."""

import torch


def two_tables(candidate):
    torch.manual_seed(0)
    table = torch.randn(7, 5)
    reading, writing = (torch.randn(2, 7), torch.randn(5, 2)), (torch.randn(2, 5), torch.randn(7, 2))
    before = table.clone()
    found = candidate(table, reading, writing, 3.0)
    assert torch.equal(table, before), "the table you were given has changed; give back new ones"
    assert len(found) == 2, "two tables: the one to read from, then the one to write with"
    assert [list(one.shape) for one in found] == [[7, 5], [7, 5]], "each is as large as the tied one, [7, 5]"
    read, write = (table + 3 * change for change in ((reading[1] @ reading[0]).T, writing[1] @ writing[0]))
    both = read + write - table
    assert not torch.allclose(found[0], both, atol=1e-4), "each table gets its own change, not both"
    assert torch.allclose(found[0], read, atol=1e-5), "to read from: the table and scaling times (B @ A), turned over"
    assert torch.allclose(found[1], write, atol=1e-5), "to write with: the table and scaling times B @ A"


def adapter_bytes(candidate):
    assert candidate([], 16, 8, 100) == 3200, "8 rows of 100 numbers at 4 bytes each: 3,200 bytes"
    found = candidate([(30, 20)], 4, 0, 100)
    assert found == 800, f"A is [4, 20] and B [30, 4]: 200 numbers at 4 bytes each, not {found} bytes"
    assert candidate([(30, 20), (20, 30)], 4, 2, 10) == 1680, "two layers of 200 numbers, two rows of 10: 1,680 bytes"


def moved(candidate):
    wanted = torch.tensor([[1.0, 2.0, -8.0], [4.0, 0.0, 3.0]])
    assert candidate(wanted, wanted.clone()) == (0.0, 0.0), "the same logits: nothing has moved"
    found = wanted.clone()
    found[0, 2] -= 2
    assert candidate(wanted, found)[0] == 0.25, "a logit fell from -8 to -10, the largest absolute value is 8: 0.25"
    found = wanted.clone()
    found[1, 2] += 2
    distance, other = candidate(wanted, found)
    assert distance == 0.25, "a logit rose by 2, the largest absolute value is 8: 0.25"
    assert other == 0.5, f"at one of two places another token leads: 0.5, not {other}"
