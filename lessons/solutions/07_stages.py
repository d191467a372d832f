"""Solutions of lesson 7, and mistakes that its checks must find."""

import torch


def surprise(model, ids, learned):
    with torch.no_grad():
        chances = model(torch.tensor([ids]))[0].log_softmax(-1)
    counted = [-float(chances[place - 1, ids[place]]) for place in range(1, len(ids)) if learned[place]]
    return sum(counted) / len(counted)


def surprise__looks_at_its_own_position(model, ids, learned):
    with torch.no_grad():
        chances = model(torch.tensor([ids]))[0].log_softmax(-1)
    counted = [-float(chances[place, ids[place]]) for place in range(1, len(ids)) if learned[place]]
    return sum(counted) / len(counted)


def surprise__counts_every_token(model, ids, learned):
    with torch.no_grad():
        chances = model(torch.tensor([ids]))[0].log_softmax(-1)
    return -float(chances[:-1].gather(1, torch.tensor(ids)[1:, None]).mean())


def surprise__takes_scores_for_chances(model, ids, learned):
    with torch.no_grad():
        scores = model(torch.tensor([ids]))[0]
    counted = [-float(scores[place - 1, ids[place]]) for place in range(1, len(ids)) if learned[place]]
    return sum(counted) / len(counted)


def surprise__shifts_what_counts(model, ids, learned):
    with torch.no_grad():
        chances = model(torch.tensor([ids]))[0].log_softmax(-1)
    counted = [-float(chances[place, ids[place + 1]]) for place in range(len(ids) - 1) if learned[place]]
    return sum(counted) / len(counted)


def outcome(called, wanted):
    if not wanted:
        return "false call" if called else "right refusal"
    if not called:
        return "false refusal"
    return "exact" if called == wanted else "wrong call"


def outcome__looks_at_the_name_only(called, wanted):
    if not wanted:
        return "false call" if called else "right refusal"
    if not called:
        return "false refusal"
    return "exact" if [name for name, _ in called] == [name for name, _ in wanted] else "wrong call"


def outcome__counts_a_refusal_as_exact(called, wanted):
    if called == wanted:
        return "exact"
    return "false call" if not wanted else "wrong call" if called else "false refusal"


def outcome__is_content_with_the_right_one_among_others(called, wanted):
    if not wanted:
        return "false call" if called else "right refusal"
    if not called:
        return "false refusal"
    return "exact" if all(call in called for call in wanted) else "wrong call"


def outcome__forgets_the_order(called, wanted):
    if not wanted:
        return "false call" if called else "right refusal"
    if not called:
        return "false refusal"
    return "exact" if len(called) == len(wanted) and all(call in wanted for call in called) else "wrong call"
