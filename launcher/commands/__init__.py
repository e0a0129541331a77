"""The commands of ``launcher``.

Those in files.py need a fleet file, those in containers.py an engine; converge.py needs both, to plan and to
carry plans out.
"""

#: Exit statuses; a plan with changes has its own, and so has a wrong file or option. INCOMPLETE is for a
#: `doctor` that found no fault but could not check everything.
DONE, FAILED, WRONG, CHANGES, INCOMPLETE, INTERRUPTED = 0, 1, 2, 2, 3, 130

#: The fleet file if none is given.
DEFAULT_FILE = "fleet.yaml"

#: What `render` can write.
FORMATS = ("compose", "swarm", "kubernetes", "quadlet")


class InputError(Exception):
    """A fleet file, a pattern or an option is wrong; the message is for the user."""
