"""URLs are read as their drivers read them, or refused; and no credentials are shown."""

import getpass
import re
import string
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
import yarl
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from docker.utils import parse_host
from fuzz.urls import compare_with_clients
from hypothesis import given
from hypothesis import strategies as st
from linear import grows_with_its_square
from pymongo.errors import InvalidURI
from pymongo.uri_parser import parse_uri
from redis.connection import parse_url
from requests.utils import get_auth_from_url

from collector.settings import Settings
from collector.store_url import StoreUrl
from collector.stores.mongo import _options
from collector.urls import ProxyUrl, Url, masked, quoted
from launcher.engines import EngineError
from launcher.engines.endpoint import _transport
from launcher.secrets import hidden

MONGO = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "MONGO"}
PRINTABLE = st.text(st.sampled_from(string.printable[:95]), min_size=1, max_size=12)
ANY = st.text(
    st.one_of(st.sampled_from(string.printable[:95]), st.characters(exclude_categories=["Cs", "Cc"])),
    min_size=1,
    max_size=12,
)


def read(kind, text):
    try:
        return kind.parse(text)
    except ValueError as error:
        assert text not in str(error)
        return None


def redis_login(text):
    told = parse_url(text)
    return told.get("username"), told.get("password"), told["host"], told["port"]


def mongo_login(text):
    told = parse_uri(text)
    return told["username"], told["password"], *told["nodelist"][0]


def postgres_login(text):
    rest = dict.fromkeys(("host", "port", "user", "password", "passfile", "database", "ssl", "service"))
    rest |= dict.fromkeys(("servicefile", "direct_tls", "server_settings", "target_session_attrs"))
    ((host, port),), told, *_ = _parse_connect_dsn_and_args(
        dsn=text, **rest | {"target_session_attrs": "any"}, krbsrvname=None, gsslib=None
    )
    by_itself = told.user == getpass.getuser()  # where none is named
    return None if by_itself else told.user, told.password, host, port


DRIVERS = {
    "redis://{}:{}@db.example:1234/0": redis_login,
    "mongodb://{}:{}@db.example:1234/d": mongo_login,
    "postgresql://{}:{}@db.example:1234/d?sslmode=disable": postgres_login,
}


@pytest.mark.parametrize("template", DRIVERS)
@given(user=PRINTABLE, password=PRINTABLE)
def test_a_store_url_is_read_as_its_driver_reads_it_or_refused(template, user, password):
    text = template.format(user, password)
    url = read(StoreUrl, text)
    if url is not None:
        assert (url.user, url.password, *url.hosts[0]) == DRIVERS[template](text)


@pytest.mark.parametrize("template", DRIVERS)
@given(user=ANY, password=ANY)
def test_every_user_and_password_can_be_written_encoded(template, user, password):
    text = template.format(quote(user, safe=""), quote(password, safe=""))
    url = StoreUrl.parse(text)
    assert (url.user, url.password, *url.hosts[0]) == (user, password, "db.example", 1234)
    assert DRIVERS[template](text) == (user, password, "db.example", 1234)


@pytest.mark.parametrize("sign", string.printable[:95])
@pytest.mark.parametrize("template", DRIVERS)
def test_each_character_of_a_password_is_read_as_by_the_driver_or_is_a_named_fault(template, sign):
    text = template.format("me", f"x{sign}y")
    try:
        url = StoreUrl.parse(text)
    except ValueError as error:
        assert f"%{ord(sign):02X}" in str(error)
    else:
        assert (url.user, url.password) == DRIVERS[template](text)[:2]


def test_urls_that_mongodb_refuses_are_refused_beforehand():
    for text in ("mongodb://me:a:b@h/d", "mongodb://me:a%b@h/d", "mongodb://:secret@h/d"):
        assert read(StoreUrl, text) is None
        with pytest.raises(InvalidURI):
            parse_uri(text)
    assert StoreUrl.parse("mongodb://me:a+b@h/d").password == "a b"
    assert StoreUrl.parse("mongodb://h/d?w=0;journal=true").options["w"] == "0"
    for zero in ("w=0", "w=00", "journal=true;w=0"):
        with pytest.raises(ValueError, match="would hide whether"):
            _options(Settings.read(MONGO | {"URL": f"mongodb://h/d?{zero}"}))
    cosmos = "mongodb://me:key==@me.cosmos.example:10255/?ssl=true&appName=@me@"
    assert StoreUrl.parse(cosmos).hosts == [("me.cosmos.example", 10255)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("redis://one:1,two:2/0", "has several hosts, which only Sentinels may be"),
        ("redis://%2Frun%2Fredis.sock", "write unix:///PATH"),
        ("unix://h/run/redis.sock", "unix:///PATH"),
        ("redis://h?port=2", "has host or port among its options"),
        ("postgresql://h/d?port=2", "has host or port among its options"),
        ("postgresql://h/d/e", "has more than the database after its host"),
        ("mongodb://h/d%2Fe", "has more than the database after its host"),
        ("redis://h/15?db=1", "gives its database twice"),
        ("postgresql://u@h/d?user=v", "gives its user twice"),
        ("postgresql://,h/d", "has no host"),
        ("postgresql://%2Frun:1:2/d", "no valid path of a socket's folder"),
        ("redis://:1/0", "has no host"),
        ("mongodb://h%2Ex/d", "has % in its host"),
        ("mongodb://%2Frun:x,h/d", "no valid path of a socket's folder"),
        ("mongodb://%2Frun,h/d", "has % in its host"),
        ("MONGODB://h/d", "takes a URL that begins with"),
        *(
            (f"{scheme}://[::1:]/1", "has no valid host and port")
            for scheme in ("redis", "mongodb", "postgresql")
        ),
        *(
            (f"{scheme}://{host}:6%379/1", "has % in a port")
            for scheme in ("redis", "mongodb", "postgresql", "redis+sentinel")
            for host in ("[::1]", "h")
        ),
        ("redis://xn--h/0", "has no valid host and port"),
        ("redis://a%2\\b/0", "has no valid host and port"),
    ],
)
def test_urls_that_the_driver_reads_differently_are_refused(text, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        StoreUrl.parse(text)


def test_a_socket_s_port_is_part_of_its_name():
    assert StoreUrl.parse("postgresql://u@%2Frun:5433/d").hosts == [("/run", 5433)]
    assert StoreUrl.parse("postgresql://u@%2Frun:/d").hosts == [("/run", None)]
    assert StoreUrl.parse("postgresql://u@/d?host=/run").hosts == [("/run", None)]
    assert StoreUrl.parse("unix:///run/redis:6379").hosts == [("/run/redis:6379", None)]


def test_url_options_with_credentials_and_hosts_are_accepted():
    told = StoreUrl.parse("redis://h?username=me&password=secret&db=3")
    assert (told.user, told.password, told.database) == ("me", "secret", "3")


def test_a_login_shells_user_is_not_that_of_a_password_in_the_url():
    redis = MONGO | {"BACKEND": "REDIS", "URL": "redis://:secret@h/0", "USER": "shell"}
    assert Settings.read(redis).user is None


@given(user=PRINTABLE, password=PRINTABLE)
def test_a_proxy_is_read_as_every_client_reads_it_or_refused(user, password):
    text = f"http://{user}:{password}@proxy.example:3128"
    url = read(ProxyUrl, text)
    if url is None:
        return
    assert (url.host, url.port) == ("proxy.example", 3128)
    assert (url.user, url.password) == get_auth_from_url(text)
    bare, login = aiohttp.helpers.strip_auth_from_url(yarl.URL(text))
    assert (login.login, login.password) == (url.user, url.password)
    assert (bare.host, bare.port) == (urlsplit(text).hostname, urlsplit(text).port) == (url.host, url.port)


@pytest.mark.parametrize("host", ["é", "127.0.é.1", "bücher.example", "É.example"])
def test_a_proxy_whose_name_is_no_ascii_is_one_host_to_every_client(host):
    text = f"http://{host}:3128"
    compare_with_clients(text, ProxyUrl.parse(text))


UNFIT = """
http://proxy:99999 http://proxy:0 http://:3129 http://proxy/path http://u:a/b@proxy:1 x:y http://me:%00@proxy:1
http://me%3Ayou:secret@proxy:1 http://me:%E2%82%AC@proxy:1 http://me:%FF@proxy:1
http://xn--h:1 http://é,h http://%2Frun:1 http://me:se\xa0cret@proxy:1
http://[::1:]:1 http://[127.0.0.1]:1 http://[.]:1 http://[fe80::1%251]:1
"""


@pytest.mark.parametrize(
    "text",
    [*UNFIT.strip().replace("\n", " ").split(" "), "http://me:se cret@proxy:1", "http://me:se\ncret@proxy:1"],
)
def test_a_proxy_that_no_client_could_use_is_refused(text):
    assert read(ProxyUrl, text) is None


@given(user=PRINTABLE, password=PRINTABLE)
def test_no_part_of_a_password_is_shown_whatever_is_in_it(user, password):
    text = f"http://{user}:{password}@proxy.example:3128"
    assert quoted(text) == "http://***@proxy.example:3128"
    assert quoted(f"{user}:{password}@proxy.example:3128") == "***@proxy.example:3128"
    if url := read(ProxyUrl, text):
        assert masked(f"no way to {text}, really") == "no way to http://***@proxy.example:3128, really"
        assert (url.password or text) in hidden({"https_proxy": text.encode()})


def test_a_value_that_breaks_in_the_middle_of_its_password_is_not_quoted():
    assert quoted("http://me:secret") == "http://***"
    assert quoted("http://me:secret/x") == "http://***"
    assert quoted("http://[::1]:3128/x") == "http://[::1]:3128/x"
    assert quoted("redis://h/0?sentinel_password=se'cret&x=1") == "redis://h/0?sentinel_password=***&x=1"
    assert quoted("http://proxy:3128") == "http://proxy:3128"
    assert quoted("x:secret@h/://u:secret@h") == "***@h"
    assert quoted("secret@proxy:3128") == "***@proxy:3128"


@pytest.mark.parametrize(
    "address",
    ["tcp://h:2375", "tcp://[::1]:2375", "unix:///run/d.sock", "ssh://me@h:22", "ssh://h"],
)
def test_an_engine_address_is_read_as_by_docker(address):
    ours = _transport(address, "DOCKER_HOST", None)
    theirs = urlsplit(parse_host(address).replace("http+", ""))
    if theirs.scheme == "unix":
        assert ours._path == theirs.path
    elif theirs.scheme == "ssh":
        assert ours._host == theirs.hostname
    else:
        assert (ours._host, ours._port) == (theirs.hostname, theirs.port)


@given(user=PRINTABLE, password=PRINTABLE)
def test_an_engine_address_with_a_password_is_refused_without_showing_it(user, password):
    with pytest.raises(EngineError) as refused:
        _transport(f"tcp://{user}:{password}@h:2375", "DOCKER_HOST", None)
    assert str(refused.value).startswith("DOCKER_HOST = 'tcp://***@h:2375': ")


WORST = ("://", ":", "@", ":@", "/@", "@/", "a", "://@", "password=", "%", "[", "?", "&=", "'", "x://y@")


@pytest.mark.parametrize("repeated", WORST)
@pytest.mark.parametrize("end", ["", "\n", "@"])
def test_reading_and_masking_take_linear_time(repeated, end):
    def text(size):
        return f"redis://{repeated * (size // len(repeated))}{end}"

    for work in (masked, quoted, Url.parse, StoreUrl.parse, lambda text: ProxyUrl.parse(f"http{text[5:]}")):
        assert not grows_with_its_square(work, text)
