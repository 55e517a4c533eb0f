"""Values of dead letters as files to edit: bytes and text as they are, all else as JSON."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError

if TYPE_CHECKING:
    from hybridcore.write_queue import DeadLetter

_PYTHON = "edit it in Python, with dead_letters.replay(ID, value=...)"


def as_file(letter: DeadLetter) -> bytes:
    """The value of a letter as the content of a file.

    Raises:
        UsageError: it has none, cannot be read here, or JSON cannot tell it.
    """
    _require_editable(letter)
    value = letter.value
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def from_file(letter: DeadLetter, content: bytes) -> Any:
    """The content of a file as a value for a letter, of the kind that it has.

    Raises:
        UsageError: see `as_file`, or the content is of another kind.
    """
    _require_editable(letter)
    if isinstance(letter.value, bytes):
        return content
    kind = "text in UTF-8" if isinstance(letter.value, str) else "JSON"
    try:
        text = content.decode()
        value = text if kind != "JSON" else json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise UsageError(
            f"the value of letter {letter.id} is expected to be {kind}: {error}"
        ) from None
    for container, name in ((dict, "an object"), (list, "an array")):
        if isinstance(letter.value, container) and not isinstance(value, container):
            raise UsageError(
                f"the value of letter {letter.id} is expected to be {name}, as it is now, "
                f"got {text[:60]!r}"
            )
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _require_editable(letter: DeadLetter) -> None:
    if letter.deletes:
        raise UsageError(f"letter {letter.id} is a delete and has no value")
    if letter.unreadable:
        raise UsageError(
            f"the value of letter {letter.id} cannot be read here ({letter.unreadable}); {_PYTHON}"
        )
    found = None if isinstance(letter.value, bytes) else _unlike_json(letter.value)
    if found is not None:
        raise UsageError(
            f"the value of letter {letter.id} holds {found}, which JSON cannot tell; {_PYTHON}"
        )


def _unlike_json(value: Any) -> str | None:
    """What of a value would not come back from JSON as it is."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                return f"the key {key!r}"
            if (found := _unlike_json(item)) is not None:
                return found
        return None
    if type(value) is list:
        return next((found for item in value if (found := _unlike_json(item)) is not None), None)
    if type(value) is float and not isfinite(value):
        return repr(value)
    if value is None or type(value) in (str, int, float, bool):
        return None
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
