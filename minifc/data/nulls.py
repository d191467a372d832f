"""Nulls that mean nothing, as tables have them: there, each object has the fields of every other row's, as nulls.

One rule for parquet and JSON Lines: a null that the tool's schema does not allow is no argument.
"""

from collections.abc import Mapping
from typing import Any

from minifc.text.calls import at_pointer

_DATA = ("enum", "const", "examples", "example")  # keywords whose values are data and not schemas


def tidy_schema(schema: Any) -> Any:
    """A tool or a schema without keywords that are null; a default stays if the schema allows null."""
    if isinstance(schema, list):
        return [tidy_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    tidy = {
        name: value if name in _DATA or name == "default" else tidy_schema(value)
        for name, value in schema.items()
        if value is not None or name == "default"
    }
    if tidy.get("default", "") is None and not allows_null(tidy, {}):
        del tidy["default"]
    return tidy


def without_nulls(arguments: dict[str, Any], schema: Any) -> tuple[dict[str, Any], int]:
    """A call's arguments without the nulls that the schema of its tool does not allow, and how many these were."""
    root = schema if isinstance(schema, Mapping) else {}
    listed = root if root.get("properties") else {"additionalProperties": False}
    return _Cleaner(root).object(arguments, listed)


def allows_null(schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether null is of this schema, which stands in `root`."""
    schema = _followed(schema, root)
    if not isinstance(schema, Mapping):
        return schema is True
    if schema.get("nullable") is True:
        return True
    if "const" in schema or isinstance(schema.get("enum"), list):
        return schema.get("const", "") is None or None in (schema.get("enum") or [])
    for keyword, holds in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        if isinstance(options := schema.get(keyword), list):
            return holds(allows_null(option, root) for option in options)
    kinds = schema.get("type", "null")
    return "null" in [str(kind).lower() for kind in (kinds if isinstance(kinds, list) else [kinds])]


def _followed(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema that a $ref names; {} where it names none. Ten in a row are followed."""
    for _ in range(10):
        if not isinstance(schema, Mapping) or not isinstance(pointer := schema.get("$ref"), str):
            return schema
        found = at_pointer(root, pointer)
        schema = {} if found is None else found
    return {}


class _Cleaner:
    """Values without nulls, by the schemas that stand in one root."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root

    def value(self, value: Any, schema: Any) -> tuple[Any, int]:
        schema = self._option(value, _followed(schema, self.root))
        if isinstance(value, dict):
            return self.object(value, schema)
        if isinstance(value, list):
            items = [self.value(item, schema.get("items", True)) for item in value]
            return [item for item, _ in items], sum(count for _, count in items)
        return value, 0

    def object(self, value: dict[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        listed = schema.get("properties")
        listed = listed if isinstance(listed, Mapping) else {}
        others = schema.get("additionalProperties", not listed)
        kept, dropped = {}, 0
        for name, item in value.items():
            kind = listed.get(name, others)
            if item is None and not allows_null(kind, self.root):
                dropped += 1
                continue
            kept[name], inside = self.value(item, kind)
            dropped += inside
        return kept, dropped

    def _option(self, value: Any, schema: Any) -> Mapping[str, Any]:
        """The schema, or of its options the first that has all keys of an object, or is for arrays if it is one."""
        if not isinstance(schema, Mapping):
            return {}
        options = schema.get("anyOf") or schema.get("oneOf")
        for option in options if isinstance(options, list) else ():
            option = _followed(option, self.root)
            if not isinstance(option, Mapping):
                continue
            listed = option.get("properties")
            named = {name for name, item in value.items() if item is not None} if isinstance(value, dict) else set()
            if isinstance(value, list) and option.get("type") == "array":
                return option
            if isinstance(value, dict) and isinstance(listed, Mapping) and named <= listed.keys():
                return option
        return {} if options else schema
