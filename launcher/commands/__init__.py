"""What the commands of ``launcher`` do.

files.py needs a fleet file, containers.py an engine, converge.py both: it plans, and carries plans out.
"""

#: Exit statuses; a plan with changes has one of its own, as a wrong file or option has. INCOMPLETE is that of
#: a `doctor` that found no fault and could not try everything.
DONE, FAILED, WRONG, CHANGES, INCOMPLETE, INTERRUPTED = 0, 1, 2, 2, 3, 130

#: The fleet file where none is given.
DEFAULT_FILE = "fleet.yaml"


class InputError(Exception):
    """A fleet file, a pattern or an option is wrong; the message is for the user."""
