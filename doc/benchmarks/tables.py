"""Tables of the benchmarks, in Markdown."""

import importlib.metadata
import os
import pathlib
import platform
import re

# The answer that a page begins with. It is written by hand, on the page alone.
ANSWER = re.compile(r"<!-- answer, by hand -->\n.*?<!-- end of the answer -->\n", re.DOTALL)


def with_answer(text, path):
    """Keep the answer of the page that a text replaces, below the text's title."""
    older = path if path.exists() else pathlib.Path(__file__).with_name(path.name)
    found = ANSWER.search(older.read_text()) if older.exists() else None
    title, _, rest = text.partition("\n\n")
    return text if found is None else f"{title}\n\n{found[0]}\n{rest.lstrip()}"


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


def machine():
    """Name the processor, and how many cores it has."""
    model = platform.processor() or platform.machine()
    if pathlib.Path("/proc/cpuinfo").exists():
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        model = names[0] if names else model
    return f"a virtual machine, {model}, {os.cpu_count()} cores"
