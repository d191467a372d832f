"""The formats of JSON Schema that a grammar holds to, as patterns of whole texts.

Sources: RFC 3339 (dates, times, durations), RFC 5321 (mail), RFC 1123 (host names), RFC 2673 and 4291 (addresses),
RFC 4122 (UUID), RFC 3986 and 3987 (URI, IRI), RFC 6570 (URI templates), RFC 6901 (JSON pointers). Not held to is how
long a host name is in all, and that a leap second was one.
"""

from functools import lru_cache

from minifc.calling.patterns import language_of
from minifc.calling.regular import Language

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_HOURS, _MINUTES = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_TIME = (
    rf"(?:{_HOURS}:{_MINUTES}:{_MINUTES}(?:\.[0-9]+)?(?:[Zz]|[+-]{_HOURS}:{_MINUTES})"
    r"|23:59:60(?:\.[0-9]+)?(?:[Zz]|[+-]00:00))"
)
_CLOCK = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DAYS = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_DURATION = f"P(?:[0-9]+W|{_DAYS}(?:{_CLOCK})?|{_CLOCK})"

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?:{_BYTE}\.){{3}}{_BYTE}"
_H = "[0-9A-Fa-f]{1,4}"
_LAST_32 = f"(?:{_H}:{_H}|{_IPV4})"
_IPV6 = "(?:" + "|".join(
    [f"(?:{_H}:){{6}}{_LAST_32}", f"::(?:{_H}:){{5}}{_LAST_32}"]
    + [f"(?:(?:{_H}:){{0,{n}}}{_H})?::(?:{_H}:){{{4 - n}}}{_LAST_32}" for n in range(5)]
    + [f"(?:(?:{_H}:){{0,5}}{_H})?::{_H}", f"(?:(?:{_H}:){{0,6}}{_H})?::"]
) + ")"  # fmt: skip
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_MAIL = rf"(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@(?:{_HOST}|\[{_IPV4}\]|\[IPv6:{_IPV6}\])"


def _uri(more: str) -> tuple[str, str]:
    """A URI, and a reference to one that may be relative. more: characters beyond ASCII that may stand in it."""
    kept = rf"[A-Za-z0-9._~!$&'()*+,;={more}-]|%[0-9A-Fa-f]{{2}}"
    segment = f"(?:{kept}|[:@])"
    host = rf"(?:\[(?:{_IPV6}|v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]|(?:{kept})*)"
    authority = f"//(?:(?:{kept}|:)*@)?{host}(?::[0-9]*)?(?:/{segment}*)*"
    ending = rf"(?:\?(?:{segment}|[/?])*)?(?:#(?:{segment}|[/?])*)?"
    rooted = f"/(?:{segment}+(?:/{segment}*)*)?"
    rootless = f"{segment}+(?:/{segment}*)*"
    relative = f"(?:{kept}|@)+(?:/{segment}*)*"
    whole = f"[A-Za-z][A-Za-z0-9+.-]*:(?:{authority}|{rooted}|{rootless}|){ending}"
    return whole, f"(?:{whole}|(?:{authority}|{rooted}|{relative}|){ending})"


_URI, _URI_REFERENCE = _uri("")
_IRI, _IRI_REFERENCE = _uri("\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U000efffd")
_VARIABLE = r"(?:\w|%[0-9A-Fa-f]{2})(?:\.?(?:\w|%[0-9A-Fa-f]{2}))*(?::[1-9][0-9]{0,3}|\*)?"
_TEMPLATE = rf"""(?:[^\x00-\x20"'%<>\\^`{{|}}]|%[0-9A-Fa-f]{{2}}|\{{[+#./;?&=,!@|]?{_VARIABLE}(?:,{_VARIABLE})*\}})*"""
_POINTER = "(?:/(?:[^~/]|~[01])*)*"

_PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[Tt]{_TIME}",
    "duration": _DURATION,
    "email": _MAIL,
    "idn-email": rf"(?:[^\s@\x00-\x1f]|{_QUOTED})+@[^\s@\x00-\x1f]+",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uuid": "[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
    "uri": _URI,
    "uri-reference": _URI_REFERENCE,
    "uri-template": _TEMPLATE,
    "iri": _IRI,
    "iri-reference": _IRI_REFERENCE,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
}


@lru_cache
def language_of_format(name: str) -> Language | None:
    """The texts of a format; None if it is not one that is held to."""
    pattern = _PATTERNS.get(name)
    return language_of(f"^(?:{pattern})$") if pattern else None
