"""Times since 1970, UTC: integer nanoseconds in records, float seconds where stores and people read them."""

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """Return the nanoseconds that ``seconds`` are: whole microseconds, where a float can mean these.

    Of a time after April 1970, dividing them by SECOND gives the same float again. Raises ValueError or
    OverflowError for what is no finite number.
    """
    microseconds = round(seconds * 1e6)
    if microseconds / 1_000_000 == seconds:
        return microseconds * MICROSECOND
    whole = int(seconds)
    return whole * SECOND + round((seconds - whole) * SECOND)
