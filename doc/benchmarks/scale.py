"""Time and memory as samples, classes, units and ranks grow, and as memory shrinks.

    python doc/benchmarks/scale.py FOLDER --write doc/benchmarks

Every measurement runs in a process of its own, on one thread (``scale_cases.py``). FOLDER
keeps the trained network of ``label_errors_scale.py``, and a file of 2 GB. It takes about
ten minutes of one core, and seven more to train the network the first time.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys

import numpy as np
from tables import table, versions, with_answer

CASES = pathlib.Path(__file__).with_name("scale_cases.py")
N_IMAGES = (5_000, 15_000, 60_000)
BUDGETS = (64, 256, 1024)
BOUNDED = {  # what is measured under each budget
    "detector, CNN, 5,000 images": ("cnn", 5_000),
    "detector, MLP, 15,000 images": ("mlp", 15_000),
    "profile, ResNet, a batch a class": ("profile", 1),
    "200,000 x 512 in a file": ("map", 200_000),
    "200 classes of 50 x 256": ("classes", 200),
    "4,000 x 4,096": ("wide", 4_096),
}


def measure(case, size, memory, folder):
    """Run a case in a process of its own."""
    command = [sys.executable, str(CASES), case, str(size), str(memory), str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed)
    print(case, size, memory, found, flush=True)
    return found


def growth(folder):
    """Fashion-MNIST: table of seconds and memory by the number of images."""
    rows, times = [], []
    for n in N_IMAGES:
        found = measure("cnn", n, None, folder)
        seconds = found["seconds"]
        times.append(sum(seconds.values()))
        rows.append(
            (
                f"{n:,}",
                f"{seconds['fit']:.1f} s",
                f"{seconds['score']:.1f} s",
                f"{found['added']:.0f} MiB",
                f"{found['libraries']:.0f} MiB",
            )
        )
    exponents = np.diff(np.log(times)) / np.diff(np.log(N_IMAGES))
    columns = "images", "`fit`, network trained", "`score_samples`", "added", "libraries"
    text = table(columns, rows)
    listed = " and ".join(f"{exponent:.2f}" for exponent in exponents)
    return f"{text}\nThe exponent of the time from one number to the next: {listed}.\n"


def extremes(folder):
    """Files, classes, units and ranks: table of seconds and memory."""
    rows = []
    cases = {
        "1,000,000 x 512 in a file": ("map", 1_000_000),
        "1,000 classes of 50 x 256": ("classes", 1_000),
        "4,000 x 16,384": ("wide", 16_384),
        "20,000 x 512, ranks to 128": ("ranks", 20_000),
    }
    for name, (case, size) in cases.items():
        found = measure(case, size, None, folder)
        seconds = {"reading": 0.0} | found["seconds"]
        steps = ", ".join(
            f"{step} {spent:.1f} s" for step, spent in seconds.items() if spent
        )
        parts = (f"{found[part]:.0f}" for part in ("added", "libraries", "peak"))
        rows.append((name, steps, *parts))
    columns = "added, MiB", "libraries, MiB", "resident in all, MiB"
    return table(("activations", "time", *columns), rows)


def budgets(folder):
    """Peak memory as a share of ``working_memory``."""
    rows, forward = [], None
    for name, (case, size) in BOUNDED.items():
        cells = []
        for budget in BUDGETS:
            found = measure(case, size, budget, folder)
            spent = sum(v for k, v in found["seconds"].items() if k != "reading")
            share = found["added"] / budget
            cells.append(f"{found['added']:.0f} ({share:.2f}), {spent:.0f} s")
            forward = found.get("forward", forward)
        rows.append((name, *cells))
    text = table(("", *(f"{budget} MiB" for budget in BUDGETS)), rows)
    return (
        f"{text}\nOf what the profile adds, torch takes {forward:.0f} MiB to run the "
        "ResNet on a batch.\n"
    )


def main():
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Time and memory at scale",
        "",
        "Written by `scale.py`, each measurement in a new process, on one core of a "
        f"shared virtual machine ({platform.machine()}); "
        f"{versions('sknonlin', 'torch', 'scikit-learn', 'numpy')}. *Added* is the peak "
        "of resident memory, less the memory after a first call on little data. It "
        "includes pages of memory maps, and the results. The first call loads what is "
        "under *libraries*.",
        "",
        "## Samples",
        "",
        "A `MemorizationDetector` measures a trained CNN with three convolutions on "
        "Fashion-MNIST. `working_memory` has its default of 1,024 MiB.",
        "",
        growth(arguments.folder),
        "## Files, classes, units, ranks",
        "",
        "`ActivationNonlinearity` has its defaults. The rows of a file are in a memory "
        "map. *Reading* is the time to read the file alone, from the cache as far as it "
        "was there. Classes are scored by their own label.",
        "",
        extremes(arguments.folder),
        "## Memory as asked for",
        "",
        "The cells have the peak of what is added in MiB, its share of `working_memory`, "
        "and the time.",
        "",
        budgets(arguments.folder),
    ]
    text = "\n".join(parts)
    print(text)
    if arguments.write:
        path = arguments.write / "scale.md"
        path.write_text(with_answer(text, path))


if __name__ == "__main__":
    main()
