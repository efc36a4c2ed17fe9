"""Tables of the benchmarks, in Markdown."""

import importlib.metadata
import platform


def row(*cells):
    """One line of a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(head, rows):
    """Head and rows as one string."""
    return "\n".join([row(*head), row(*["---"] * len(head)), *[row(*r) for r in rows], ""])


def versions(*packages):
    """Say what the numbers were measured with."""
    named = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{named}, Python {platform.python_version()}"
