"""Retries of what may pass: when, how often, and how long to wait; tenacity does the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.breaker import Errors, error_classes
from hybridcore.errors import ConfigurationError, OriginUnavailableError
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a call of the origin is tried again after a failure that may pass.

    Before the second try a random time up to ``wait`` passes, before each further one up to twice
    the last bound, and what the origin asked for (``Retry-After``) in any case. Nothing is tried
    again if that takes longer than the hard timeout leaves, or while the breaker is not closed.

    Needs tenacity: ``pip install hybridcore[retry]``.

    Args:
        attempts: tries in all.
        wait: bound of the first wait.
        max_wait: bound of the further ones; an origin that asks for more is not tried again.
        on: errors after which it is tried again.
        writes: whether ``store`` and ``delete`` are, too: only if doing it twice does no harm.

    Raises:
        ConfigurationError: an option makes no sense.
    """

    attempts: int = 3
    wait: Duration = "100ms"
    max_wait: Duration = "5s"
    on: Errors = (OriginUnavailableError, ConnectionError)
    writes: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise ConfigurationError(f"attempts is expected to be a number, got {self.attempts!r}")
        if self.attempts < 2:
            raise ConfigurationError(
                f"attempts={self.attempts} tries nothing again; give at least 2, or no Retry at all"
            )
        object.__setattr__(self, "wait", seconds(self.wait))
        object.__setattr__(self, "max_wait", seconds(self.max_wait))
        object.__setattr__(self, "on", error_classes("on", self.on))

    def helps(self, error: BaseException) -> bool:
        """Whether to try again after this error."""
        return isinstance(error, self.on) and asked_by(error) <= seconds(self.max_wait)

    def options(
        self, may_wait: Callable[[float], bool], sleep: Callable[[float], Any]
    ) -> dict[str, Any]:
        """What to make a ``tenacity.Retrying`` or ``AsyncRetrying`` of.

        ``may_wait`` is asked before each wait whether there is any point in it.
        """
        from tenacity import retry_if_exception, wait_random_exponential

        backoff = wait_random_exponential(seconds(self.wait), seconds(self.max_wait))

        def wait(state: RetryCallState) -> float:
            assert state.outcome is not None
            return backoff(state) + asked_by(state.outcome.exception())

        def stop(state: RetryCallState) -> bool:
            enough = state.attempt_number >= self.attempts
            return enough or not may_wait(state.upcoming_sleep)

        return {
            "retry": retry_if_exception(self.helps),
            "wait": wait,
            "stop": stop,
            "sleep": sleep,
            "reraise": True,
        }


def asked_by(error: object) -> float:
    """Seconds for which an error asks that its origin be left alone; what is no number is none."""
    asked = getattr(error, "retry_after", None)
    return max(0.0, float(asked)) if isinstance(asked, (int, float)) else 0.0


def require_tenacity() -> None:
    """Raise ImportError if tenacity is not there."""
    try:
        import tenacity  # noqa: F401  # only to say at once that it is missing
    except ImportError as error:
        raise ImportError("Retry needs tenacity: pip install hybridcore[retry]") from error
