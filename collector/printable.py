"""Makes text from outside fit to be shown: from files, exchanges, stores or engines.

It may contain control characters (ESC, BEL), characters that only look like the end of a line (U+2028), or a
million characters. Everything that is printed or logged passes through here.
"""

#: Most characters of a log line, and of a library's error within a message.
LONGEST_LINE, LONGEST_ERROR = 8_000, 2_000
#: The largest part of a text that is searched, for example for secrets, before it is shortened.
_WORTH_READING = 2**18


def printable(text: str, keep: str = "") -> str:
    r"""Return ``text`` with ``\x1b`` and the like for unprintable characters, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in keep else sign.encode("unicode_escape").decode()
        for sign in text
    )


def printable_json(text: str) -> str:
    r"""Return JSON with ``\u001b`` and the like, which means the same; newlines between values stay."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else _in_json(sign) for sign in text)


def _in_json(sign: str) -> str:
    pair = sign.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pair[place : place + 4]}" for place in range(0, len(pair), 4))


def shortened(text: str, most: int = LONGEST_LINE, *, of: int = 0) -> str:
    """Return at most about ``most`` characters of a text, with its length if its middle was left out.

    The length is ``of`` if parts were left out before.
    """
    if len(text) <= most:
        return text
    end = -(-most // 4)
    return f"{text[: most - end]} [... {of or len(text):,} characters in all ...] {text[-end:]}"


def worth_reading(text: str) -> str:
    """Return the part of a huge text that is worth processing."""
    return shortened(text, _WORTH_READING)
