"""A recorder of gaps that is a list, where no spool is needed."""


class Reported(list):
    """The gaps that were reported; ``marks`` is what was marked."""

    next_sequence = 0

    def __init__(self):
        super().__init__()
        self.marks = {}

    def report(self, gap):
        self.append(gap)

    def mark(self, key, value):
        self.marks[key] = value
