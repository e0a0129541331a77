"""JSON that somebody else may have overwritten - files, marks, notes - read as what it should be."""

import msgspec

__all__ = ["DecodeError", "decode"]

DecodeError = msgspec.DecodeError


def decode[T](text: bytes | str, kind: type[T]) -> T:
    """Return ``text`` as ``kind``. Raises DecodeError for anything else.

    msgspec has other errors for text that is not UTF-8, or nested too deeply.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except UnicodeDecodeError as error:
        raise DecodeError(str(error)) from error
    except RecursionError as error:
        raise DecodeError("it is nested too deeply") from error
