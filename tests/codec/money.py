"""A class of an application and the codec that it brings."""

from __future__ import annotations

from hybridcore.codec import Codec


class Money:
    """An application's own class: (de)coded by a custom codec."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return hash(self.cents)


MONEY = Codec(64, Money, lambda money: b"%d" % money.cents, lambda data: Money(int(data)))
