"""Checks of lesson 13: each calls what you wrote, and says what is wrong with it."""

import math

import torch


def adamw(candidate):
    p, m, v = candidate(5.0, 0.0, 0.0, 1000.0, 1, 0.01, 0.0)
    assert abs(m - 100) < 1e-6, f"m is {m}; of a first gradient of 1000 a tenth goes into it"
    assert abs(v - 1000) < 1e-6, f"v is {v}; of its square, a million, a thousandth"
    assert abs(p - 4.99) < 1e-6, f"without decay the first step is as long as the rate, 0.01: from 5 to {p}"
    p, m, v = candidate(5.0, 0.0, 0.0, 1000.0, 1, 0.2, 0.5)
    assert abs(p - 4.3) < 1e-6, f"decay takes 0.2 * 0.5 of the old p, 5, and the step 0.2: from 5 to 4.3, not to {p}"
    p, m, v = candidate(5.0, 0.0, 0.0, 0.0, 1, 0.01, 0.1)
    assert abs(p - 4.995) < 1e-6, f"with no gradient, decay alone takes 0.01 * 0.1 * 5 away: from 5 to {p}"
    assert m == v == 0, "decay does not go through the gradient, so m and v stay at zero"
    theirs = torch.tensor([2.0], requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.1)
    p, m, v = 2.0, 0.0, 0.0
    for t in range(1, 31):
        p, m, v = candidate(p, m, v, 4 * p**3, t, 0.05, 0.1)
        (theirs**4).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert abs(p - theirs.item()) < 1e-4, (
        f"after 30 steps down p⁴ from 2 torch is at {theirs.item():.4f}, you at {p:.4f}"
    )


def learning_rate(candidate):
    rates = [candidate(step, 100, 10, 2.0) for step in range(100)]
    assert abs(rates[0] - 0.2) < 1e-9, f"step 0 of ten warm ones has a tenth of the highest, 0.2, not {rates[0]:.3f}"
    assert abs(rates[9] - 2.0) < 1e-9, f"the last warm step has the highest rate, 2, not {rates[9]:.3f}"
    assert abs(rates[10] - 2.0) < 1e-9, f"the cosine begins at the highest rate, 2, not {rates[10]:.3f}"
    assert abs(rates[55] - 1.0) < 1e-9, f"half way down, in step 55, it is half of it, not {rates[55]:.3f}"
    assert 0 < rates[99] < 0.01, f"in the last step it is nearly 0, not {rates[99]:.3f}"


def clip(candidate):
    assert candidate([[0.3], [0.4]], 1.0) == [[0.3], [0.4]], "length 0.5 is short enough for 1: nothing changes"
    found = candidate([[3.0, 0.0], [0.0, 4.0]], 1.0)
    flat = [g for gradient in found for g in gradient]
    length = math.sqrt(sum(g * g for g in flat))
    assert abs(length - 1) < 1e-3, f"3 and 4 together are 5 long; shortened to 1, not to {length:.2f}"
    assert abs(flat[0] - 0.6) < 1e-3, "the direction stays: 3 and 4 become 0.6 and 0.8"
    assert [len(gradient) for gradient in found] == [2, 2], "it has the shape of what was given"
    (three,), (four,) = candidate([[3.0], [4.0]], 2.0)
    assert abs(math.hypot(three, four) - 2) < 1e-3, "5 long, and 2 is allowed: shortened to 2"
    assert candidate([[0.0], [0.0]], 1.0) == [[0.0], [0.0]], "a gradient of zeros stays one"
