"""Whatever somebody wrote over a file, a mark or a note is one error."""

import pytest

from collector import completeness, health, typed_json
from collector.stores import notes

DEEP = '{"exchange":"A","x":' + "[" * 100_000 + "]" * 100_000 + ',"stopped":true,"good_for":1.0,"seen":[]}'
#: A million times a million channels of symbols, of two megabytes.
MANY = '{"exchange":"A","stopped":true,"good_for":1.0,"seen":[[1.0,{"' + "a," * 10**6 + '":['
MANY += ",".join(['"a"'] * 10**5) + "]}]]}"


@pytest.mark.parametrize("text", [DEEP, MANY, '{"exchange":1}', "[", ""])
def test_an_invalid_note_is_damaged_and_ignored(text, caplog):
    assert notes.decode("other", text) == notes.blank()
    assert "the note of collector other in the store is damaged" in caplog.text
    assert completeness.read_notes({"other": text}) == ([], ["the note of collector other"])


@pytest.mark.parametrize("content", [DEEP.encode(), b"{}", b'{"name":"\xff"}', b"\xff\xfe", b""])
def test_an_invalid_status_is_reported(content, tmp_path):
    (tmp_path / health.STATUS_FILE).write_bytes(content)
    with pytest.raises(typed_json.DecodeError):
        health.read(tmp_path)
    alive, said = health.check(tmp_path)
    assert not alive
    assert said.startswith("no status: ")
