"""Solutions of lesson 9, and mistakes that its checks must find."""

import re

import torch


def encode_with(tokenizer, text, new):
    names = sorted(new, key=len, reverse=True)
    ids = []
    for part in re.split("(" + "|".join(map(re.escape, names)) + ")", text):
        if part in new:
            ids.append(new[part])
        elif part:
            ids += tokenizer.encode(part)
    return ids


def encode_with__takes_them_in_the_order_given(tokenizer, text, new):
    ids = []
    for part in re.split("(" + "|".join(map(re.escape, new)) + ")", text):
        ids += [new[part]] if part in new else tokenizer.encode(part)
    return ids


def encode_with__forgets_that_a_spelling_is_no_pattern(tokenizer, text, new):
    names = sorted(new, key=len, reverse=True)
    ids = []
    for part in re.split("(" + "|".join(names) + ")", text):
        ids += [new[part]] if part in new else tokenizer.encode(part)
    return ids


def encode_with__loses_what_stands_between(tokenizer, text, new):
    names = sorted(new, key=len, reverse=True)
    return [new[name] for name in re.findall("|".join(map(re.escape, names)), text)]


def lookup(table, rows, ids):
    old = len(table)
    is_new = (ids >= old)[:, None]
    return torch.where(is_new, rows[(ids - old).clamp(min=0)], table[ids.clamp(max=old - 1)])


def lookup__counts_from_the_end(table, rows, ids):
    return torch.where((ids >= len(table))[:, None], rows[ids % len(rows)], table[ids.clamp(max=len(table) - 1)])


def lookup__copies_the_table(table, rows, ids):
    return torch.cat([table, rows])[ids]


def lookup__cuts_the_gradient(table, rows, ids):
    return torch.cat([table, rows]).detach()[ids]


def lookup__reads_the_last_old_row_for_all_new_ids(table, rows, ids):
    return table[ids.clamp(max=len(table) - 1)] + 0 * rows.sum()


def registered_in_vain(registered, texts):
    found = {tag for text in texts for tag in re.findall(r"</?[a-z_]+>", text)}
    return sorted(set(registered) - found), sorted(found - set(registered))


def registered_in_vain__looks_at_the_first_text(registered, texts):
    found = set(re.findall(r"</?[a-z_]+>", texts[0]))
    return sorted(set(registered) - found), sorted(found - set(registered))


def registered_in_vain__forgets_closing_tags(registered, texts):
    found = {tag for text in texts for tag in re.findall(r"<[a-z_]+>", text)}
    opening = {tag for tag in registered if "/" not in tag}
    return sorted(opening - found), sorted(found - opening)


def registered_in_vain__takes_part_of_a_tag_for_it(registered, texts):
    whole = " ".join(texts)
    found = set(re.findall(r"</?[a-z_]+>", whole))
    names = [tag.strip("</>") for tag in registered]
    return [tag for tag in sorted(registered) if tag.strip("</>")[:6] not in whole], sorted(
        tag for tag in found if tag.strip("</>") not in names
    )
