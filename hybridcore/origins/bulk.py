"""Bulk endpoints: one request for the values of many keys, and how its reply is split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin

from hybridcore.errors import ConfigurationError, OriginError
from hybridcore.origins import http_rules as rules
from hybridcore.origins.url_template import UrlTemplate, text_of

if TYPE_CHECKING:
    from urllib.parse import SplitResult

K = TypeVar("K")

Split = Callable[[Any, Sequence[Any]], Mapping[Any, Any]]
"""Takes the decoded body and the keys asked for; returns the values of those there are."""


class Bulk:
    """The bulk endpoint of a service.

    Args:
        base: of the service.
        template: an address with ``{keys}`` in it, absolute or below the base.
        split: a `Split`; or the name of the field that tells the items of a list apart. By
            default the body is an object of values by key.
        size: how many keys are asked for at a time.

    Raises:
        ConfigurationError: the address is of another service, or an option makes no sense.
    """

    def __init__(
        self, base: SplitResult, template: str, split: Split | str | None, size: int
    ) -> None:
        self._template = UrlTemplate(urljoin(base.geturl(), template))
        if self._template.fields != ("keys",):
            raise ConfigurationError(
                "bulk is expected to have one field, {keys}, got "
                f"{', '.join(self._template.fields) or 'none'}"
            )
        if not rules.same_service(base, self._template.base.geturl()):
            raise ConfigurationError("bulk is expected to be on the service of base_url")
        if size < 1:
            raise ConfigurationError(f"bulk_size is expected to be at least 1, got {size}")
        self.size = size
        self._split = split

    def address(self, keys: Sequence[Any]) -> str:
        """Return the address of these keys, separated by commas.

        Raises:
            OriginError: a key has none.
        """
        try:
            joined = ",".join(quote(text_of(key), safe="") for key in keys)
        except UnicodeEncodeError as error:
            raise OriginError("a key has no UTF-8 form, so it has no address") from error
        return self._template.filled({"keys": joined}, safe="%,")

    def values(self, body: Any, keys: Sequence[K]) -> Mapping[K, Any]:
        """Return the values of the keys that there are.

        Raises:
            OriginError: the body is not what ``split`` says.
        """
        if callable(self._split):
            found = self._split(body, keys)
            if not isinstance(found, Mapping):
                raise OriginError(
                    "split is expected to return a mapping of keys to values, "
                    f"got {type(found).__name__}"
                )
            return found
        if self._split is None:
            by_text = body if isinstance(body, Mapping) else None
        else:
            field = self._split
            is_list = isinstance(body, list) and all(
                isinstance(item, Mapping) and field in item for item in body
            )
            by_text = {str(item[field]): item for item in body} if is_list else None
        if by_text is None:
            wanted = "an object" if self._split is None else f"a list of objects with {field!r}"
            raise OriginError(
                f"a bulk reply is expected to be {wanted}, got {type(body).__name__}: "
                "give split= to make values by key of it"
            )
        return {key: by_text[str(key)] for key in keys if str(key) in by_text}
