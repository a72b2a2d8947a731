"""Cookies as they came: every value of a name, where a dict would keep one of them and hide that there are two."""

from __future__ import annotations

from multidict import CIMultiDictProxy


def crumbs(headers: CIMultiDictProxy[str]) -> list[str]:
    """The `name=value` parts of all Cookie headers, in order."""
    parts = (part.strip() for value in headers.getall("Cookie", []) for part in value.split(";"))
    return [part for part in parts if part]


def cookie_name(crumb: str) -> str:
    """The name of a crumb."""
    return crumb.partition("=")[0].strip()


def cookie_values(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """All values of one name."""
    return [crumb.partition("=")[2].strip().strip('"') for crumb in crumbs(headers) if cookie_name(crumb) == name]
