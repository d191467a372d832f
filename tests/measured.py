"""The largest difference that each comparison found: pytest --measured shows them, and README's table quotes them."""

import os

LARGEST: dict[str, float] = {}  # by test


def measured(share: float) -> float:
    """Note a difference, of logits as a share of the largest, for the test that runs. Returns it."""
    test = os.environ["PYTEST_CURRENT_TEST"].partition("[")[0].partition(" ")[0]
    LARGEST[test] = max(LARGEST.get(test, 0.0), share)
    return share
