"""Words for what goes wrong on the way to a server, without what libraries add to them."""

import os
import re
import ssl

_NUMBERED = re.compile(r"\[Errno (-?\d+)\] ")


def in_words(error: BaseException) -> str:
    """Return the error in the system's words if it has some: ``Connection refused``.

    A library that wraps a system error keeps it as the context of its own; asyncio lists the errors of all
    addresses of a host in one text. TLS has error numbers of its own, which the system would misinterpret.
    """
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        if (cause.errno or 0) > 0:
            return os.strerror(cause.errno or 0)
        if cause.errno and cause.strerror:  # of the resolver, whose numbers are negative
            return cause.strerror
        if numbers := [int(each) for each in _NUMBERED.findall(str(cause)) if int(each) > 0]:
            return ", ".join(dict.fromkeys(map(os.strerror, numbers)))
    return unnumbered(str(error)) or type(error).__name__


def unnumbered(text: str) -> str:
    """Return the text without the error numbers."""
    return _NUMBERED.sub("", text)
