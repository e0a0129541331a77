"""Text without the secrets that it may repeat: errors of libraries, log lines, what a container said.

A secret is masked as a whole, wherever it stands. One that might as well be a word of a message (``wrong``,
``redis``, ``6379``) is masked where it is a value: in quotes, after ``password=``, before the ``@`` of a URL.
Elsewhere it is the word: masking that would spoil the message, and give the secret away to whoever knows the
message.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from collector import urls
from collector.printable import worth_reading

#: Secrets that a message may contain by chance: words, short phrases, numbers, names, a few characters.
_WORD = re.compile(r"[A-Za-z]?[a-z -]{0,20}|[A-Z -]{1,20}|[0-9.]{1,15}|[\w.-]{1,7}|.{1,3}", re.DOTALL)
#: Where such a secret is a value.
_VALUE = (
    r"(?<=(?P<mark>['\"`])){0}(?=(?P=mark))"
    r"|(?<=[:/]){0}(?=@)"
    r"|(?P<key>(?i:password|passwd|pwd|passphrase|secret|token)['\"]?[ ]?[=:][ ]?['\"]?){0}(?![\w-])"
)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with ``***`` for each of ``secrets`` and for the credentials of every URL in it.

    Of a huge text the middle is left out.
    """
    text = worth_reading(text)
    written = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""))}
    for secret in sorted(written, key=len, reverse=True):  # one that is part of another leaves nothing of it
        if _WORD.fullmatch(secret):
            text = _as_value(secret).sub(lambda found: f"{found['key'] or ''}***", text)
        else:
            text = text.replace(secret, "***")
    return urls.masked(text)


@lru_cache(maxsize=256)
def _as_value(secret: str) -> re.Pattern[str]:
    return re.compile(_VALUE.replace("{0}", re.escape(secret)))
