"""The code of the tour and the guide runs as written, and every link leads somewhere."""

import pathlib
import re
import runpy

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

mpl.use("Agg")

ROOT = pathlib.Path(__file__).parent.parent
# What each page's code prints, in this order; its blocks run one after the other.
PAGES = {
    "tour": r"training accuracy: [01]\.\d+.*suggested.*flagged, .*cleaned.*epochs",
    "nonlinearity": r"alike \[0. 0. .*unlike \[0\.[3-9]",
    "rank_curves": r"\(10, 5\).*\(2, 10, 5\)",
    "memorization": r"\['relu1', 'relu2'\].*accuracy",
    "label_errors": r"",  # none
    "review": r"\d+ wrong labels, \d+ after the review",
    "early_stopping": r"epochs; 0\.9\d of the true labels",
    "scale": r"\[0\.\d+ +0\.\d+\]",
    "parameters": r"score 0\.[2-6]\d.*score (0\.[6-9]\d|1\.0)",
}
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / "doc" / f"{page}.md").read_text())
    assert blocks
    (tmp_path / "page.py").write_text("\n".join(blocks))
    with torch.random.fork_rng():
        runpy.run_path("page.py", run_name="__main__")
    assert re.search(PAGES[page], capsys.readouterr().out, re.DOTALL)
    plt.close("all")


@pytest.mark.parametrize("page", ["README.md", "doc/install.md"])
def test_torch_is_installed_first_as_constrained(page):
    constraints = (ROOT / "tests" / "constraints.txt").read_text().splitlines()
    (version,) = re.findall(r"torch==[\d.]+", (ROOT / page).read_text())
    assert version in constraints


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "doc").glob("**/*.md"))], ids=str
)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target
