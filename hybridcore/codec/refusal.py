"""What is said when no codec takes a value."""

from __future__ import annotations

from hybridcore.errors import EncodeError

WAY_OUT = (
    "Register a codec with Codecs(Codec(code, type, encode, decode)), "
    "or opt in to pickle with Codecs(pickle_key=...)"
)


class UnknownTypeError(EncodeError):
    """No codec takes values of this type, or this very one; pickle may, where opted in."""

    def __init__(
        self, kind: type, reason: str = "no codec takes it", way_out: str = WAY_OUT
    ) -> None:
        super().__init__(
            f"cannot store a value of type {kind.__module__}.{kind.__qualname__}: "
            f"{reason}. {way_out}."
        )
