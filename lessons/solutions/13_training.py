"""Solutions of lesson 13, and mistakes that its checks must find."""

import math


def adamw(p, m, v, gradient, t, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    p -= rate * decay * p
    p -= rate * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return p, m, v


def adamw__does_not_correct_the_means(p, m, v, gradient, t, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    p -= rate * decay * p
    return p - rate * m / (math.sqrt(v) + 1e-8), m, v


def adamw__decays_through_the_gradient(p, m, v, gradient, t, rate, decay):
    gradient += decay * p
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    return p - rate * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


def adamw__decays_after_the_step(p, m, v, gradient, t, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    p -= rate * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return p - rate * decay * p, m, v


def adamw__forgets_the_root(p, m, v, gradient, t, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    p -= rate * decay * p
    return p - rate * (m / (1 - 0.9**t)) / (v / (1 - 0.999**t) + 1e-8), m, v


def learning_rate(step, steps, warm, highest):
    if step < warm:
        return highest * (step + 1) / warm
    return highest * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def learning_rate__begins_at_zero(step, steps, warm, highest):
    if step < warm:
        return highest * step / warm
    return highest * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def learning_rate__falls_from_the_first_step(step, steps, warm, highest):
    if step < warm:
        return highest * (step + 1) / warm
    return highest * (1 + math.cos(math.pi * step / steps)) / 2


def clip(gradients, longest):
    length = math.sqrt(sum(g * g for gradient in gradients for g in gradient))
    return [[g * min(1, longest / max(length, 1e-12)) for g in gradient] for gradient in gradients]


def clip__shortens_each_by_itself(gradients, longest):
    clipped = []
    for gradient in gradients:
        length = math.sqrt(sum(g * g for g in gradient))
        clipped.append([g * min(1, longest / max(length, 1e-12)) for g in gradient])
    return clipped


def clip__cuts_each_number(gradients, longest):
    return [[max(-longest, min(longest, g)) for g in gradient] for gradient in gradients]


def clip__is_always_one_long(gradients, longest):
    return clip(gradients, 1.0)


def clip__also_lengthens(gradients, longest):
    length = math.sqrt(sum(g * g for gradient in gradients for g in gradient))
    return [[g * longest / max(length, 1e-12) for g in gradient] for gradient in gradients]
