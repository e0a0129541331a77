"""Text from outside made fit to be shown: what a file, an exchange, a store or an engine says.

It may hold what a terminal obeys (ESC, BEL), what only looks like the end of a line (U+2028), or a million
characters. Everything that is printed or logged goes through here.
"""

#: Characters of a log line, or of another's error within a message.
LONGEST_LINE, LONGEST_ERROR = 8_000, 2_000
#: The largest part of a text that is looked at, for secrets for example, before it is shortened.
_WORTH_READING = 2**18


def printable(text: str, keep: str = "") -> str:
    r"""Return ``text`` with ``\x1b`` and the like for what cannot be printed; ``keep`` stays as it is."""
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
    """Return up to about ``most`` characters of a text, with its length where its middle is left out.

    That is ``of`` where some of it was left out before.
    """
    if len(text) <= most:
        return text
    end = -(-most // 4)
    return f"{text[: most - end]} [... {of or len(text):,} characters in all ...] {text[-end:]}"


def worth_reading(text: str) -> str:
    """Return the part of a huge text that is worth the time to read it."""
    return shortened(text, _WORTH_READING)
