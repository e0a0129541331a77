"""The commands of ``launcher``.

Those in files.py need a fleet file, those in containers.py an engine; converge.py needs both, to plan and to
carry plans out.
"""

import re
from typing import override

#: Exit statuses; a plan with changes has its own, and so has a wrong file or option. INCOMPLETE is for a
#: `doctor` that found no fault but could not check everything.
DONE, FAILED, WRONG, CHANGES, INCOMPLETE, INTERRUPTED = 0, 1, 2, 2, 3, 130

#: The fleet file if none is given.
DEFAULT_FILE = "fleet.yaml"

#: What `render` can write.
FORMATS = ("compose", "swarm", "kubernetes", "quadlet")


class InputError(Exception):
    """A fleet file, a pattern or an option is wrong; the message, for the user, has a line for each fault.

    An indented line belongs to the one before it.
    """

    @property
    def told(self) -> str:
        """The message with the program's name before each fault."""
        return re.sub(r"^(?=\S)", "launcher: ", str(self), flags=re.MULTILINE)


class PlacedError(InputError):
    """Faults in a file: each line begins with its place instead of the program's name, as editors expect."""

    @property
    @override
    def told(self) -> str:
        return str(self)
