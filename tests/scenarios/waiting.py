"""How scenarios wait, and how they fail."""

import time

# Long, because a development build on a busy machine is slow; nothing passes by waiting it out.
PATIENCE_SECONDS = 240


class Failed(Exception):
    """The scenario's claim does not hold."""


class Skipped(Exception):
    """The scenario can't run here, and why."""


def check(claim, otherwise):
    if not claim:
        raise Failed(otherwise)


def wait_for(condition, what, seconds=PATIENCE_SECONDS, every=0.1):
    """Returns the first true value of `condition`; fails with `what` after the deadline."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s in vain: {what}")
        # sleep: between two looks at the state that is waited for
        time.sleep(every)


def last(seconds):
    """Lets a fault last, or a load go on; nothing is concluded from the time alone."""
    # sleep: the length of a fault is what the scenario is about
    time.sleep(seconds)
