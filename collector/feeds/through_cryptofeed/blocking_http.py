"""HTTP requests with the library requests, for cryptofeed's classes, within the bounds of ``feeds.http``."""

import time
from typing import Any, override

import requests
import urllib3
from yarl import URL

from collector.feeds import http
from collector.feeds.http import AnswerError, RateLimits, redirected, shown, too_large

_CHUNK = 2**16


class _Session(requests.Session):
    """A session that does not follow redirects; even then, requests would read their whole bodies."""

    @override
    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def fetch(method: str, address: str, limits: RateLimits, **options: Any) -> requests.Response:
    """Send a request with the library requests, which takes ``options``; only GET follows redirects.

    Raises requests.RequestException, AnswerError and RateLimitedError.
    """
    deadline = time.monotonic() + http.SLOWEST_ANSWER
    for _ in range(http.MOST_REDIRECTS):
        limits.check(URL(address))
        with _Session() as session, session.request(method, address, stream=True, **options) as answer:
            url = URL(answer.url)
            limits.note(url, answer.status_code, answer.headers)
            location = answer.headers.get("Location")
            if answer.status_code not in http.REDIRECTS or location is None:
                _read(answer, url, deadline)
                return answer
            address = str(redirected(url, location))
        if method != "GET":
            raise AnswerError(f"{shown(url)}: redirects a {method}; not followed")
        options.pop("params", None)  # the new address already includes them
    raise AnswerError(f"{shown(url)}: redirects more than {http.MOST_REDIRECTS} times; not followed")


def _read(answer: requests.Response, url: URL, deadline: float) -> None:
    """Read the body into the answer, as requests would."""
    body = bytearray()
    try:
        while chunk := answer.raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > http.LARGEST_ANSWER:
                raise too_large(url)
            if time.monotonic() > deadline:
                raise AnswerError(f"{shown(url)}: the answer takes more than {http.SLOWEST_ANSWER:.0f} s")
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error
    answer._content = bytes(body)  # noqa: SLF001 - where requests stores the body
    answer._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    answer.encoding = (
        answer.encoding or "utf-8"
    )  # otherwise requests guesses, which takes minutes for a long body
