"""Solutions of lesson 18, and mistakes that its checks must find."""


def merge(weight, A, B, r, alpha):
    return (weight.float() + alpha / r * (B @ A)).to(weight.dtype)


def merge__forgets_the_scaling(weight, A, B, r, alpha):
    return (weight.float() + B @ A).to(weight.dtype)


def merge__multiplies_the_other_way(weight, A, B, r, alpha):
    return (weight.float() + alpha / r * (A.T @ B.T).reshape(weight.shape)).to(weight.dtype)


def merge__computes_in_the_weights_precision(weight, A, B, r, alpha):
    return weight + (alpha / r * (B.to(weight.dtype) @ A.to(weight.dtype))).to(weight.dtype)


def merge__gives_fp32_back(weight, A, B, r, alpha):
    return weight.float() + alpha / r * (B @ A)


def merge__changes_the_weight(weight, A, B, r, alpha):
    weight += (alpha / r * (B @ A)).to(weight.dtype)
    return weight


def adapter_bytes(layers, r, new_tokens, width):
    return 4 * (sum(r * (rows + columns) for rows, columns in layers) + new_tokens * width)


def adapter_bytes__counts_numbers(layers, r, new_tokens, width):
    return sum(r * (rows + columns) for rows, columns in layers) + new_tokens * width


def adapter_bytes__counts_the_merged_change(layers, r, new_tokens, width):
    return 4 * (sum(rows * columns for rows, columns in layers) + new_tokens * width)


def adapter_bytes__forgets_the_rows(layers, r, new_tokens, width):
    return 4 * sum(r * (rows + columns) for rows, columns in layers)


def moved(wanted, found):
    distance = (found - wanted).abs().max() / wanted.abs().max()
    return float(distance), float((found.argmax(-1) != wanted.argmax(-1)).float().mean())


def moved__lets_signs_cancel(wanted, found):
    distance = (found - wanted).max() / wanted.max()
    return float(distance), float((found.argmax(-1) != wanted.argmax(-1)).float().mean())


def moved__takes_the_mean(wanted, found):
    distance = (found - wanted).abs().mean() / wanted.abs().mean()
    return float(distance), float((found.argmax(-1) != wanted.argmax(-1)).float().mean())


def moved__compares_the_largest(wanted, found):
    distance = abs(found.abs().max() - wanted.abs().max()) / wanted.abs().max()
    return float(distance), float((found.argmax(-1) != wanted.argmax(-1)).float().mean())


def moved__counts_the_places(wanted, found):
    return moved(wanted, found)[0], float((found.argmax(-1) != wanted.argmax(-1)).sum())
