"""The code of home page and guide runs as written, and every link leads somewhere."""

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
    "index": r"given  suggested",
    "label_errors": r"0\.9\d\d before, 0\.9[89]\d after\n1[5-9]\d\.\d",
    "memorization": r"noisy labels memorized more than true labels.*untrained 0.*relu2",
    "early_stopping": r"epochs; 0\.9\d of the true labels",
    "trained_networks": r"0\.[67]\d+ \d.*digit \d",
    "pipelines": r"mean radius.*\[0\.\d+ +0\.\d+ *\]\n\[",
    "review": r"\d+ wrong labels, \d+ after the review",
    "text_tables_audio": r"wrong before, \d after\n\[0, 1, 2, 3, 4, 5, 6, 7, 8, 9\]\nTrue",
    "scale": r"\(800,\)",
    "nonlinearity": r"alike \[0. 0. .*unlike \[0\.[3-9]",
    "rank_curves": r"\(10, 5\).*\(2, 10, 5\)",
    "certified_ranks": r"rank=3.*\n6 6 True",
    "parameters": r"\[1, 2, 4, 8\]",
}
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
TASKS = re.compile(r"```{toctree}\n.*?\n\n(.*?)```", re.DOTALL)
WIDEST_CODE = 88
MOST_WORDS = 7000  # of all pages of the guide


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


@pytest.mark.parametrize("page", ["README.md", "doc/install.md", "doc/index.md"])
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


def guide_pages():
    """Pages of the guide, in its order."""
    index = (ROOT / "doc" / "user_guide.md").read_text()
    listed = "".join(TASKS.findall(index)).splitlines()
    return [re.sub(r".*<(\w+)>", r"\1", line) for line in listed]


def test_the_guide_lists_all_its_pages_in_a_line_each():
    index = (ROOT / "doc" / "user_guide.md").read_text()
    assert guide_pages() == re.findall(r"^- \[.*?\]\((\w+)\.md\)", index, re.MULTILINE)


def test_the_guide_is_short():
    texts = [(ROOT / "doc" / f"{page}.md").read_text() for page in guide_pages()]
    assert sum(len(text.split()) for text in texts) <= MOST_WORDS


@pytest.mark.parametrize(
    "page", ["index", "install", "algorithm", "certified_ranks", *guide_pages()]
)
def test_code_fits_into_a_column(page):
    text = (ROOT / "doc" / f"{page}.md").read_text()
    for code in re.findall(r"```.*?```", text, re.DOTALL):
        assert [line for line in code.splitlines() if len(line) > WIDEST_CODE] == []


def test_pages_of_benchmarks_begin_with_their_answer():
    scripts = (ROOT / "doc").glob("*/*.py")
    kept = [script for script in scripts if "with_answer(text" in script.read_text()]
    assert len(kept) > 10
    start = re.compile(r"# .*\n\n<!-- answer, by hand -->\n[\w`]")
    for page in (script.with_suffix(".md") for script in kept):
        assert not page.exists() or start.match(page.read_text()), page
