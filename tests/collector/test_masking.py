import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.masking import masked

MESSAGES = (
    "redis:6379: USER or PASSWORD is wrong (WRONGPASS invalid username-password pair or user is disabled.)",
    'password authentication failed for user "me"',
    "Connection refused on port 5432; again in 15.6 s",
)
PLACES = (
    "redis://me:{}@db:6379/1: no",
    "cannot reach me:{}@db",
    "host=db password={} sslmode=require",
    "Password: {}, and more",
    "unknown command 'AUTH', with args beginning with: '{}' ",
    'AUTH "{}"',
    "{{'password': '{}'}}",
)
words = st.sampled_from(
    sorted({word for message in MESSAGES for word in re.findall(r"\w[\w.-]*\b", message)})
)


@given(words)
def test_a_password_that_is_a_common_word_leaves_messages_unchanged(word):
    for message in MESSAGES:
        assert masked(message, [word]) == message or f'"{word}"' in message


@pytest.mark.parametrize("place", PLACES)
@given(
    st.one_of(
        words.filter("password".__ne__), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=9)
    )
)
def test_a_secret_is_masked_where_it_is_a_value(place, secret):
    assert masked(place.format(secret), [secret]) == place.format("***").replace(
        "me:***@", "***@", 1
    ).replace("cannot reach ***@db", "cannot reach me:***@db")


@pytest.mark.parametrize(
    "secret",
    ["correct-horse-battery", "blue-gorilla", "sunshine", "hunter2", "Qwertz", "tiger nine", "TRUSTNO"],
)
@pytest.mark.parametrize(
    "sentence",
    [
        "the server has not heard of {} before",
        "{}",
        "no such user {}.",
        "AUTH me {}: refused",
        "(given: {}, twice {})",
    ],
)
def test_an_uncommon_secret_is_masked_within_a_sentence(secret, sentence):
    assert masked(sentence.format(*[secret] * 2), [secret]) == sentence.format("***", "***")


@pytest.mark.parametrize("secret", ["sunshine", "hunter2"])
def test_a_secret_is_not_cut_out_of_a_longer_word(secret):
    assert masked(f"{secret}s, the-{secret}", [secret]) == f"{secret}s, the-{secret}"


@pytest.mark.parametrize("secret", ["hJkd8Lq2-x", "ca/nary", "correct horse battery staple", "A1b2C3d4"])
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_secret_that_is_not_a_word_is_masked_everywhere(secret, before, after):
    assert secret not in masked(f"{before}{secret}{after}", [secret])


def test_a_secret_may_be_part_of_another():
    assert masked("first-1234 and first-1234-more", ["first-1234", "first-1234-more"]) == "*** and ***"
