"""What a transcript shows, compared with what was said.

Digits, and how often a blank is repeated, may differ; `...` stands for what is left out.
"""

import re


def alike(said, shown):
    """Whether the output is as shown; nothing shown says nothing."""
    if not shown.strip():
        return True
    pattern = ".*".join(re.escape(bare(part)) for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE))
    return re.fullmatch(pattern, bare(said), re.DOTALL) is not None


def bare(text):
    return re.sub(r"\s+", " ", re.sub(r"[0-9][0-9,.]*", "0", text)).strip()
