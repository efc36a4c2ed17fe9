"""Tables of the benchmarks, in Markdown."""

import importlib.metadata
import os
import pathlib
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


def machine():
    """Name the processor, and how many cores it has."""
    model = platform.processor() or platform.machine()
    if pathlib.Path("/proc/cpuinfo").exists():
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        model = names[0] if names else model
    return f"a virtual machine, {model}, {os.cpu_count()} cores"
