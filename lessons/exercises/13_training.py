"""Exercises of lesson 13. Replace each `raise` by your code, then: python -m lessons.check 13"""


def adamw(
    p: float, m: float, v: float, gradient: float, t: int, rate: float, decay: float
) -> tuple[float, float, float]:
    """Step number t (the first is 1) of AdamW on one number p: the new p, m and v.

    The running means keep 0.9 of m and 0.999 of v; both are corrected for having started at zero; 1e-8 is added to the
    root. Decay takes rate * decay * (the old p) away, and does not go through the gradient.
    """
    raise NotImplementedError


def learning_rate(step: int, steps: int, warm: int, highest: float) -> float:
    """The learning rate in step 0 .. steps - 1.

    In the first `warm` steps it rises evenly, from highest / warm in step 0 to `highest` in the last of them. After
    them it falls along half a cosine, from `highest` in step `warm` to what would be 0 in step `steps`.
    """
    raise NotImplementedError


def clip(gradients: list[list[float]], longest: float) -> list[list[float]]:
    """The gradients of all matrices, shortened.

    Taken together as one vector they are at most `longest` long afterwards, and point where they pointed. What is
    short enough stays as it is.
    """
    raise NotImplementedError
