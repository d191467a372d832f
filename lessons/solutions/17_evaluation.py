"""Solutions of lesson 17, and mistakes that its checks must find."""

import math


def wilson(count, total, z=1.96):
    share = count / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (middle - half) / (1 + z * z / total), (middle + half) / (1 + z * z / total)


def wilson__is_the_simple_one(count, total, z=1.96):
    share = count / total
    half = z * math.sqrt(share * (1 - share) / total)
    return share - half, share + half


def wilson__forgets_to_divide(count, total, z=1.96):
    share = count / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return middle - half, middle + half


def wilson__always_takes_95_percent(count, total, z=1.96):
    return wilson(count, total)


def exact(calls, wanted):
    left = list(wanted)
    for call in calls:
        if call not in left:
            return False
        left.remove(call)
    return not left


def exact__minds_the_order(calls, wanted):
    return calls == wanted


def exact__counts_none(calls, wanted):
    return all(call in wanted for call in calls) and all(call in calls for call in wanted)


def exact__is_content_with_more(calls, wanted):
    return all(call in calls for call in wanted)


def exact__looks_at_names(calls, wanted):
    return sorted(name for name, _ in calls) == sorted(name for name, _ in wanted)


def false_shares(fits, called):
    refused = sum(fit and not call for fit, call in zip(fits, called, strict=True))
    called_falsely = sum(call and not fit for fit, call in zip(fits, called, strict=True))
    return refused / sum(fits), called_falsely / (len(fits) - sum(fits))


def false_shares__of_all_questions(fits, called):
    refused = sum(fit and not call for fit, call in zip(fits, called, strict=True))
    called_falsely = sum(call and not fit for fit, call in zip(fits, called, strict=True))
    return refused / len(fits), called_falsely / len(fits)


def false_shares__of_what_the_model_did(fits, called):
    refused = sum(fit and not call for fit, call in zip(fits, called, strict=True))
    called_falsely = sum(call and not fit for fit, call in zip(fits, called, strict=True))
    return refused / max(1, len(called) - sum(called)), called_falsely / max(1, sum(called))


def false_shares__the_wrong_way_round(fits, called):
    return false_shares(fits, called)[::-1]
