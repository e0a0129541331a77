"""Kills a process at each change of the file system that a piece of work makes."""

import itertools
import os
import signal
import traceback


def die_before(change, **more):
    """From now on, the process is killed when it is about to change the file system for that time.

    ``more``: modules by the name of a function that changes it as well.
    """
    changes = itertools.count()

    def fatal(operation):
        def wrapped(*args, **kwargs):
            if next(changes) == change:
                die()
            return operation(*args, **kwargs)

        return wrapped

    places = dict.fromkeys(("fsync", "link", "mkdir", "replace", "rmdir", "unlink"), os) | more
    for name, module in places.items():
        setattr(module, name, fatal(getattr(module, name)))


def die():
    """The process ends here, with nothing done that it would do when it ends."""
    os.kill(os.getpid(), signal.SIGKILL)


def lives(work):
    """Runs ``work`` in a process of its own; whether it was not killed."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:  # noqa: BLE001 - nothing may go on with the parent's work
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the work failed")
    return os.WIFEXITED(status)
