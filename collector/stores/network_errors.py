"""Words for what goes wrong on the way to a server, without what libraries add to them."""

import os
import re
import ssl

_NUMBERED = re.compile(r"\[Errno (-?\d+)\] ")


def in_words(error: BaseException) -> str:
    """Return what happened, in the system's words where it has some: ``Connection refused``.

    A library that wraps an error of the system keeps it as the context of its own; asyncio lists those of all
    addresses of a host in one text. TLS has numbers of its own, for which the system's words are nonsense.
    """
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        if (cause.errno or 0) > 0:
            return os.strerror(cause.errno or 0)
        if cause.errno and cause.strerror:  # of the resolver, which counts below zero
            return cause.strerror
        if numbers := [int(each) for each in _NUMBERED.findall(str(cause)) if int(each) > 0]:
            return ", ".join(dict.fromkeys(map(os.strerror, numbers)))
    return unnumbered(str(error)) or type(error).__name__


def unnumbered(text: str) -> str:
    """Return the text without the numbers of errors before their words."""
    return _NUMBERED.sub("", text)
