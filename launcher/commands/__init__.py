"""What the commands of ``launcher`` do, by what they need: files.py a fleet file, containers.py an engine."""

#: Exit statuses.
DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

#: The fleet file where none is given.
DEFAULT_FILE = "fleet.yaml"


class InputError(Exception):
    """A fleet file, a pattern or an option is wrong; the message is for the user."""
