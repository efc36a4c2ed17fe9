"""What importing sknonlin adds to importing what it depends on.

    python doc/benchmarks/import_time.py

Processor seconds of fresh interpreters, the two in turn, in `import_time.md` beside this
file; and whether matplotlib was imported.
"""

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys

from tables import table, versions, with_answer

HERE = pathlib.Path(__file__).parent
N_RUNS = 9
PACKAGES = ("sknonlin", "torch", "scikit-learn", "skorch", "scipy", "numpy", "tqdm")
MODULES = ("callbacks", "metrics", "datasets", "inspection")
COMMANDS = {
    "its dependencies": "import numpy, scipy, sklearn, torch, skorch, tqdm.auto",
    "sknonlin": "import sknonlin",
    "all its modules": "import " + ", ".join(f"sknonlin.{name}" for name in MODULES),
}


def processor_seconds(code):
    """User and system time of a new interpreter that runs ``code``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports_matplotlib(code):
    """Whether matplotlib is there after running ``code``."""
    check = f"import sys; {code}; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)
    return done.stdout.strip() == b"True"


def main():
    """Write the table."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    times = {name: [] for name in COMMANDS}
    for _ in range(N_RUNS + 1):
        for name, code in COMMANDS.items():
            times[name].append(processor_seconds(code))
    medians = {name: statistics.median(runs[1:]) for name, runs in times.items()}
    base = medians["its dependencies"]
    rows = [
        [name, f"{s:.2f}", f"{s / base:.2f}", "yes" if imports_matplotlib(code) else "no"]
        for (name, s), code in zip(medians.items(), COMMANDS.values(), strict=True)
    ]
    head = ["imported", "seconds", "against its dependencies", "brings matplotlib"]
    text = (
        "# Import time\n\nWritten by `import_time.py`: medians of "
        f"{N_RUNS} fresh interpreters, in processor seconds.\n\n"
        f"{table(head, rows)}\n{versions(*PACKAGES)}; a shared virtual machine.\n"
    )
    path = HERE / "import_time.md"
    path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()
