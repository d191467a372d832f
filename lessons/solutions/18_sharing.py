"""Solutions of lesson 18, and mistakes that its checks must find."""


def two_tables(table, reading, writing, scaling):
    return table + scaling * (reading[1] @ reading[0]).T, table + scaling * (writing[1] @ writing[0])


def two_tables__puts_both_changes_into_one(table, reading, writing, scaling):
    read, write = two_tables(table, reading, writing, scaling)
    return read + write - table, read + write - table


def two_tables__takes_one_for_the_other(table, reading, writing, scaling):
    return two_tables(table, reading, writing, scaling)[::-1]


def two_tables__forgets_the_scaling(table, reading, writing, scaling):
    return two_tables(table, reading, writing, 1.0)


def two_tables__changes_the_table(table, reading, writing, scaling):
    write = table + scaling * (writing[1] @ writing[0])
    table += scaling * (reading[1] @ reading[0]).T
    return table, write


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
