"""Solutions of lesson 5, and mistakes that its checks must find."""

import json
import struct


def _list(data):
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), 8 + length


def tensors(data):
    entries, start = _list(data)
    entries.pop("__metadata__", None)
    return {n: data[start + e["data_offsets"][0] : start + e["data_offsets"][1]] for n, e in entries.items()}


def tensors__counts_from_the_beginning_of_the_file(data):
    entries, _ = _list(data)
    entries.pop("__metadata__", None)
    return {n: data[e["data_offsets"][0] : e["data_offsets"][1]] for n, e in entries.items()}


def tensors__forgets_the_eight_bytes(data):
    entries, start = _list(data)
    entries.pop("__metadata__", None)
    start -= 8
    return {n: data[start + e["data_offsets"][0] : start + e["data_offsets"][1]] for n, e in entries.items()}


def tensors__takes_the_end_for_a_length(data):
    entries, start = _list(data)
    entries.pop("__metadata__", None)
    found = {}
    for name, entry in entries.items():
        first, second = entry["data_offsets"]
        found[name] = data[start + first : start + first + second]
    return found


def bfloat16(two_bytes):
    return struct.unpack("<f", b"\0\0" + two_bytes)[0]


def bfloat16__puts_the_missing_half_on_the_wrong_side(two_bytes):
    return struct.unpack("<f", two_bytes + b"\0\0")[0]


def bfloat16__reads_the_other_sixteen_bit_format(two_bytes):
    return struct.unpack("<e", two_bytes)[0]


def bfloat16__higher_byte_first(two_bytes):
    return struct.unpack(">f", two_bytes + b"\0\0")[0]


def first_mismatch(expected, found, allowed):
    for name, value in expected.items():
        share = float((value - found[name]).abs().max() / value.abs().max())
        if not share <= allowed:
            return name
    return None


def first_mismatch__lets_nan_pass(expected, found, allowed):
    for name, value in expected.items():
        if (value - found[name]).abs().max() / value.abs().max() > allowed:
            return name
    return None


def first_mismatch__takes_the_mean(expected, found, allowed):
    for name, value in expected.items():
        if not (value - found[name]).abs().mean() / value.abs().mean() <= allowed:
            return name
    return None


def first_mismatch__finds_the_largest(expected, found, allowed):
    shares = {name: float((v - found[name]).abs().max() / v.abs().max()) for name, v in expected.items()}
    worst = max(shares, key=lambda name: shares[name])
    return worst if not shares[worst] <= allowed else None


def first_mismatch__in_absolute_numbers(expected, found, allowed):
    for name, value in expected.items():
        if not (value - found[name]).abs().max() <= allowed:
            return name
    return None
