"""Reports of labels, hostile ones too, and a browser."""

import shutil

import numpy as np
import pandas as pd
import pytest

HOSTILE = '</script><img src=x onerror="window.hacked = true">'
LABELS = [
    *("cat", "dog", HOSTILE, "=1+1", " =2", "'quoted", "-2", "007", "1-2"),
    'a "b", c;\nd',
]


def make_report(labels=("cat", "dog"), n_samples=6, seed=0):
    """A report as a detector makes it, the worst first, of labels at random."""
    rng = np.random.default_rng(seed)
    probability = np.sort(rng.random(n_samples))[::-1]
    labels = np.array(labels, dtype=object)
    given = rng.permutation(np.arange(n_samples) % len(labels))  # all of them
    step = rng.integers(1, max(2, len(labels)), size=n_samples)
    return pd.DataFrame(
        {
            "index": rng.permutation(n_samples),
            "given": labels[given],
            "suggested": labels[(given + step) % len(labels)],
            "score": np.log(probability / (1 - probability)),
            "layer": rng.choice(["input", "relu1"], n_samples),
            "flagged": probability > 0.5,
            "probability": probability,
            "certainty": rng.random(n_samples),
        }
    )


def given_labels(report):
    """The labels in the order of the data."""
    return report.sort_values("index")["given"].to_numpy()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium, which saves files in its ``folder``."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing")
    from selenium.webdriver.chrome.service import Service

    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium and its driver are missing (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    folder = tmp_path_factory.mktemp("browser")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder / "saved")}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.folder = folder / "saved"
    yield started
    started.quit()
