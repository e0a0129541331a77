"""A recorder of gaps that is a list, where no spool is needed."""

from streams import in_seconds

from collector.gaps.marks import Marks


class Reported(list):
    """The gaps that were reported, their times in seconds; ``marks`` is what was marked."""

    next_sequence = 0

    def __init__(self):
        super().__init__()
        self.marks = Marks({})

    def report(self, gap):
        self.append(in_seconds(gap))
