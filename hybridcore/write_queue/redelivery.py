"""`Redelivery`: when a write that failed is tried again, and when it is given up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

from hybridcore.breaker import Errors, error_classes
from hybridcore.errors import (
    ConfigurationError,
    ConflictError,
    DecodeError,
    EncodeError,
    KeyEncodingError,
    ReadOnlyOriginError,
)
from hybridcore.retry import asked_by
from hybridcore.units import Duration, seconds

Jitter = Literal["full", "equal", "none"]
"""Whether a pause is drawn from 0 to its bound, from half of it, or is the bound."""

MOST_ASKED = 3600.0
"""Seconds for which a target that says when to come back is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """How often a write is tried, and how long it waits in between.

    The pause before try *n* + 1 is bounded by ``wait * 2 ** (n - 1)`` and by ``max_wait``, drawn as
    ``jitter`` says, and never less than what the target asked for (``Retry-After``).

    Args:
        attempts: tries in all; then the write is a dead letter. Counted when a try begins, so a
            write that kills the process is not tried for ever.
        wait, max_wait: bounds of the pauses.
        jitter: see above.
        retry_on: errors after which a write is tried again.
        give_up_on: errors after which it is not, although they are among ``retry_on``.

    Raises:
        ConfigurationError: an option makes no sense.
    """

    attempts: int = 10
    wait: Duration = "1s"
    max_wait: Duration = "5m"
    jitter: Jitter = "full"
    retry_on: Errors = (Exception,)
    give_up_on: Errors = (
        ReadOnlyOriginError,
        ConflictError,
        KeyEncodingError,
        EncodeError,
        DecodeError,
    )

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts < 0xFFFF:
            raise ConfigurationError(
                f"attempts is expected to be a whole number from 1 to 65534, got {self.attempts!r}"
            )
        if self.jitter not in get_args(Jitter):
            raise ConfigurationError(
                f"jitter is expected to be one of {', '.join(get_args(Jitter))}, "
                f"got {self.jitter!r}"
            )
        for name in ("wait", "max_wait"):
            object.__setattr__(self, name, seconds(getattr(self, name)))
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, error_classes(name, getattr(self, name)))

    def pause(self, attempt: int, error: object) -> float | None:
        """Seconds until the next try after the ``attempt``-th failed; None: there is none.

        A target may answer something else than an error for a key: that is a failure like another.
        """
        if not isinstance(error, BaseException):
            error = TypeError(f"the target told no error, but a {type(error).__name__}")
        if attempt >= self.attempts or not isinstance(error, self.retry_on):
            return None
        if isinstance(error, self.give_up_on):
            return None
        bound = min(seconds(self.max_wait), seconds(self.wait) * 2.0 ** min(attempt - 1, 62))
        least = {"full": 0.0, "equal": bound / 2, "none": bound}[self.jitter]
        return max(random.uniform(least, bound), min(asked_by(error), MOST_ASKED))
