"""Solutions of lesson 2, and mistakes that its checks must find."""

import torch


def to_the_door(table, ids):
    return table[ids] * table.shape[1] ** 0.5


def to_the_door__gives_the_bare_rows(table, ids):
    return table[ids]


def to_the_door__multiplies_by_the_root_of_the_vocabulary(table, ids):
    return table[ids] * table.shape[0] ** 0.5


def to_the_door__multiplies_by_the_number_of_tokens(table, ids):
    return table[ids] * len(ids)


def rms_norm(x, w, eps):
    wide = x.float()
    return (wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * (1 + w.float())).to(x.dtype)


def rms_norm__takes_the_weight_for_the_gain(x, w, eps):
    wide = x.float()
    return (wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * w.float()).to(x.dtype)


def rms_norm__subtracts_the_mean(x, w, eps):
    wide = x.float() - x.float().mean(-1, keepdim=True)
    return (wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * (1 + w.float())).to(x.dtype)


def rms_norm__adds_eps_to_the_root(x, w, eps):
    wide = x.float()
    return (wide / (wide.square().mean(-1, keepdim=True).sqrt() + eps) * (1 + w.float())).to(x.dtype)


def rms_norm__squares_in_sixteen_bits(x, w, eps):
    return (x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * (1 + w)).to(x.dtype)


def rms_norm__divides_by_the_length_of_the_vector(x, w, eps):
    wide = x.float()
    return (wide / (wide.square().sum(-1, keepdim=True) + eps).sqrt() * (1 + w.float())).to(x.dtype)


def turn(x, position, theta):
    half = len(x) // 2
    angles = position * theta ** -(torch.arange(half) / half)
    a, b = x[:half], x[half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()))


def turn__pairs_neighbours(x, position, theta):
    angles = position * theta ** -(torch.arange(0, len(x), 2) / len(x))
    a, b = x[0::2], x[1::2]
    return torch.stack((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1).flatten()


def turn__turns_the_first_of_each_pair_only(x, position, theta):
    half = len(x) // 2
    angles = position * theta ** -(torch.arange(half) / half)
    a, b = x[:half], x[half:]
    return torch.cat((a * angles.cos(), a * angles.sin() + b))


def turn__reflects(x, position, theta):
    half = len(x) // 2
    angles = position * theta ** -(torch.arange(half) / half)
    a, b = x[:half], x[half:]
    return torch.cat((a * angles.cos() + b * angles.sin(), a * angles.sin() + b * angles.cos()))


def turn__turns_clockwise(x, position, theta):
    half = len(x) // 2
    angles = -position * theta ** -(torch.arange(half) / half)
    a, b = x[:half], x[half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()))


def turn__turns_every_pair_alike(x, position, theta):
    half = len(x) // 2
    angle = torch.tensor(float(position))
    a, b = x[:half], x[half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()))
