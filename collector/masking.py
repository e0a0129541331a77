"""Removes secrets from text that may repeat them: errors of libraries, log lines, output of containers.

A secret is masked as a whole, wherever it occurs. One that might be part of a longer word (``hunter2``,
``correct-horse``) is masked only where it stands alone. One that messages themselves consist of - their words
(``wrong``, ``redis``), numbers, a few characters - is masked only where it is a value: in quotes, after
``password=``, before the ``@`` of a URL. Masking it as a word would spoil the message, and reveal the secret
to anybody who knows the message.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from collector import urls
from collector.printable import worth_reading

#: Secrets that a longer word may contain by chance: words, phrases, numbers, names, a few characters.
_PART = re.compile(r"[A-Za-z]?[a-z -]{0,20}|[A-Z -]{1,20}|[0-9.]{1,15}|[\w.-]{1,7}|.{1,3}", re.DOTALL)
#: Secrets that any message may contain by chance: numbers and a few characters.
_ANYTHING = re.compile(r"[0-9.]{1,15}|.{1,3}", re.DOTALL)
#: The words in messages of stores, engines, libraries and our own.
_WORDS = frozenset(
    """
    able abort aborted about accept accepted access account active actual address admin administrator
    after again against allow allowed already also another answer answered any argument arguments
    attempt attempts auth authenticate authenticated authentication authority authorization authorized
    away back backend bad because been before being between bind blocked both broken bucket busy cached
    call called cannot cause certificate changed channel check client close closed cluster code
    collection collector command commands config configuration configured connect connected connecting
    connection connections contact container content correct could create created credential credentials
    crypto cryptostore current daemon data database date default denied destination detail details
    device disabled disconnected disk docker does domain down duplicate during each empty enabled
    encrypted encryption end ended engine enough entry error errors every exceeded exchange exist
    existing exists exit expected expired expires fail failed failure fatal field file find first folder
    for forbidden form found from full gave given gone granted group handshake has have header here host
    hostname however image inside instance internal into invalid is issue issuer its join key keys known
    last later length less limit line list listen listening load local localhost locked logged login
    logs longer lookup lost made make manager many match maximum memory message method missing mode
    module mongo mongodb more most must name named names need needs network never new next node none not
    nothing nowhere number object off offline once only open operation option options other out over
    owner packet pair parquet parse part pass passed passphrase password passwords path peer pending
    permission permitted ping pipe place please point pool port postgres postgresql primary private
    process protected protocol provided proxy public query queue quiet rate read readable reading ready
    reason receive received record records redis refuse refused refuses rejected reload remote remove
    removed replica reply request requested require required reserved reset resolve resolved resource
    response restart restarted retry right rights role root route running same schema script secret
    secrets secure security see self send sent server servers service session set setting settings setup
    should shut signed simulator since size skipped slow socket some specified spool standby start
    started starting state status stop stopped storage store stored stores stream such supplied support
    supported swarm symbol symbols system table tables take taken temporary terminated terminating test
    than that the their them then there they this time timed timeout times token told too trades
    transaction tried trust trying type unable unauthorized unavailable unexpected unix unknown
    unreachable unsupported until update updated upstream url used user username users using valid value
    values variable verification verified verify version volume wait waiting want wants warning were
    what when where whether which while will with within without word words work write writing wrong
    wrongpass your zone
    """.split()  # noqa: SIM905 - a list would take hundreds of lines
)
#: The places in which such a secret is a value.
_VALUE = (
    r"(?<=(?P<mark>['\"`])){0}(?=(?P=mark))"
    r"|(?<=[:/]){0}(?=@)"
    r"|(?P<key>(?i:password|passwd|pwd|passphrase|secret|token)['\"]?[ ]?[=:][ ]?['\"]?){0}(?![\w-])"
)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with ``***`` for each of ``secrets`` and for the credentials of every URL.

    The middle of a huge text is left out.
    """
    text = worth_reading(text)
    written = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""))}
    for secret in sorted(written, key=len, reverse=True):  # longest first, since one may be part of another
        if not _PART.fullmatch(secret):
            text = text.replace(secret, "***")
            continue
        text = _as_value(secret).sub(lambda found: f"{found['key'] or ''}***", text)
        if not _is_of_messages(secret):
            text = _standing_alone(secret).sub("***", text)
    return urls.masked(text)


def _is_of_messages(secret: str) -> bool:
    """Return whether any message may contain the secret by chance."""
    if _ANYTHING.fullmatch(secret):
        return True
    return all(part in _WORDS for part in re.split(r"[ _.-]", secret.lower()) if part)


@lru_cache(maxsize=256)
def _standing_alone(secret: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(secret)}(?![\w-])")


@lru_cache(maxsize=256)
def _as_value(secret: str) -> re.Pattern[str]:
    return re.compile(_VALUE.replace("{0}", re.escape(secret)))
