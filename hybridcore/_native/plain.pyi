from typing import Final, TypeVar

from typing_extensions import Buffer

_T = TypeVar("_T")

MAX_DEPTH: Final = 128

def is_plain(value: object, /) -> bool: ...
def is_well_formed(payload: Buffer, /) -> bool: ...
def new_struct(cls: type[_T], /) -> _T: ...
