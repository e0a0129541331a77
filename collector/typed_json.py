"""JSON that somebody else may have written over: files, marks and notes, read as what they should be."""

import msgspec

__all__ = ["DecodeError", "decode"]

DecodeError = msgspec.DecodeError


def decode[T](text: bytes | str, kind: type[T]) -> T:
    """Return ``text`` as ``kind``. Raises DecodeError for whatever else it is.

    msgspec has errors of its own for a text that is no UTF-8, and for one that is nested too deeply.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except UnicodeDecodeError as error:
        raise DecodeError(str(error)) from error
    except RecursionError as error:
        raise DecodeError("it is nested too deeply") from error
