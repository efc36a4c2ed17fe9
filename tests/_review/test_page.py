"""The page in a browser: every kind of data, keys, filters, what is kept, what is saved."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sknonlin._review.page import as_json, page_of
from sknonlin.review import apply_review, write_review
from tests._review.conftest import HOSTILE, LABELS, given_labels, make_report

KINDS = {
    "image": (np.linspace(0, 1, 12 * 3 * 8 * 8).reshape(12, 3, 8, 8), {}),
    "table": (pd.DataFrame({"size": range(12), HOSTILE: [HOSTILE, "b"] * 6}), {}),
    "text": ([f"{HOSTILE} & \u2028 line {i}" for i in range(12)], {}),
    "audio": (np.sin(np.ones((12, 800)).cumsum(1)), {"sampling_rate": 8000}),
    "none": (None, {}),
}


def opened(browser, path, report, *arguments, **settings):
    """Write a page and open it, with nothing kept of earlier ones."""
    write_review(report, path, *arguments, **settings)
    browser.get(path.as_uri())
    if browser.execute_script("return localStorage.length"):
        browser.execute_script("localStorage.clear()")
        browser.refresh()
    return browser


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def click(browser, selector):
    browser.execute_script("arguments[0].click()", find(browser, selector)[0])


def press(browser, keys):
    find(browser, "body")[0].send_keys(keys)


def shown(browser):
    return [card.get_attribute("aria-label") for card in find(browser, ".card")]


def choose(browser, name, value):
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('change')); e.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def wait_for(condition):
    """Wait until a condition holds, at most as long as a slow machine may take."""
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


def saved(browser, name):
    """Press the button, and wait for the file."""
    path = browser.folder / f"{name}_decisions.csv"
    path.unlink(missing_ok=True)
    click(browser, "#download")
    wait_for(path.exists)
    return path


def text_of(browser, selector):
    return find(browser, selector)[0].get_property("textContent")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_with_hostile_labels(browser, tmp_path, kind):
    report = make_report(LABELS, 12)
    X, settings = KINDS[kind]
    browser.get_log("browser")
    opened(browser, tmp_path / "page.html", report, X, title=HOSTILE, **settings)
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []
    assert browser.title == text_of(browser, "h1") == HOSTILE
    cards = find(browser, ".card")
    assert len(cards) == 12
    for card, row in zip(cards, report.itertuples(), strict=True):
        part = card.find_element("css selector", ".given")
        assert part.get_property("textContent") == row.given
        content = card.find_element("css selector", ".content")
        assert_content(browser, content, kind, X, row.index)
    assert find(browser, "img[src=x]") == []


def assert_content(browser, content, kind, X, place):
    text = content.get_property("textContent")
    if kind == "text":
        assert text == X[place]
    elif kind == "table":
        assert str(X["size"][place]) in text
        assert HOSTILE in text
    elif kind == "image":
        (image,) = content.find_elements("css selector", "img")
        decoded = "arguments[1](1)"
        browser.execute_async_script(f"arguments[0].decode().then(() => {decoded})", image)
        assert image.get_property("naturalWidth") == 8
    elif kind == "audio":
        (player,) = content.find_elements("css selector", "audio")
        ready = (
            "const [e, done] = arguments; e.duration ? done() : (e.ondurationchange = done)"
        )
        browser.execute_async_script(ready, player)
        assert player.get_property("duration") == pytest.approx(0.1)
    else:
        assert text == ""


def test_nothing_runs_but_the_page_itself(browser, tmp_path):
    opened(browser, tmp_path / "page.html", make_report())
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
        "'<img src=x onerror=\"window.hacked = 1\">')"
    )
    refused = []

    def are_refused():
        refused.extend(entry["message"] for entry in browser.get_log("browser"))
        return sum("Content Security Policy" in message for message in refused) >= 2

    wait_for(are_refused)
    assert are_refused(), refused
    assert browser.execute_script("return window.hacked") is None


def test_keys_decide_and_what_is_decided_stays(browser, tmp_path):
    report = make_report(LABELS, 8)
    opened(browser, tmp_path / "keys.html", report, ["a text"] * 8)
    press(browser, "kts")
    assert [c.get_attribute("data-decided") for c in find(browser, ".card")] == [
        *("keep", "suggested", "skip"),
        *[""] * 5,
    ]
    press(browser, "u")
    press(browser, "o")
    other = next(label for label in LABELS if label not in report.loc[2].tolist())
    find(browser, "#other-find")[0].send_keys(other[:3])
    assert [o.get_property("textContent") for o in find(browser, "#other-list option")] == (
        [other]
    )
    find(browser, "#other-find")[0].send_keys("\ue007")
    assert text_of(browser, "#count") == "3 of 8 decided: 1 kept, 2 changed, 0 skipped"
    browser.refresh()
    assert text_of(browser, "#count") == "3 of 8 decided: 1 kept, 2 changed, 0 skipped"
    assert find(browser, ".current .verdict")[0].get_property("textContent") == ""
    press(browser, "\ue012" * 2)
    assert find(browser, ".current")[0].get_attribute("data-place") == "1"
    click(browser, "#keys")
    press(browser, "k")
    assert text_of(browser, "#count").startswith("3 of 8")


def test_the_file_goes_back_into_the_labels(browser, tmp_path):
    report = make_report(LABELS, 40)
    y = given_labels(report)
    opened(browser, tmp_path / "back.html", report)
    press(browser, "tks" * 13 + "t")
    path = saved(browser, "back")
    changed = report[::3]
    expected = pd.Series(y.copy())
    expected[changed["index"].tolist()] = changed["suggested"].to_numpy()
    corrected = apply_review(y, path)
    np.testing.assert_array_equal(corrected, expected)
    frame = pd.read_csv(path)
    assert list(frame.columns) == ["index", "given", "suggested", "decision", "label"]
    cells = frame[["given", "label"]].dropna().to_numpy().ravel()
    assert {"'=1+1", "' =2", "''quoted", "-2", "'007", "'1-2"} <= set(cells)
    assert not [cell for cell in cells if re.match(r"\s*[=+@]|-\D", cell)]
    np.testing.assert_array_equal(apply_review(y, frame), expected)


def test_a_second_click_takes_a_decision_back(browser, tmp_path):
    opened(browser, tmp_path / "twice.html", make_report(LABELS, 3))
    click(browser, "[data-decision=keep]")
    pressed = find(browser, "[data-decision=keep]")[0]
    assert pressed.get_attribute("aria-pressed") == "true"
    assert find(browser, "#download")[0].is_enabled()
    press(browser, "k")  # keys only ever decide
    assert pressed.get_attribute("aria-pressed") == "true"
    click(browser, "[data-decision=keep]")
    assert pressed.get_attribute("aria-pressed") == "false"
    assert text_of(browser, "#count").startswith("0 of 3")
    assert not find(browser, "#download")[0].is_enabled()
    press(browser, "u")
    assert pressed.get_attribute("aria-pressed") == "true"


def test_a_report_without_rows(browser, tmp_path):
    browser.get_log("browser")
    opened(browser, tmp_path / "empty.html", make_report()[:0], ["a text"])
    press(browser, "ktsou")
    assert find(browser, "#nothing")[0].is_displayed()
    assert browser.get_log("browser") == []


def test_decisions_can_be_forgotten(browser, tmp_path):
    opened(browser, tmp_path / "forget.html", make_report())
    press(browser, "kk")
    click(browser, "#help-button")
    click(browser, "#restart")
    browser.switch_to.alert.accept()
    browser.refresh()
    assert text_of(browser, "#count").startswith("0 of 6")


def test_rows_of_a_frame_keep_their_labels(browser, tmp_path):
    names = [f"=row {i}" for i in range(6)]
    report = make_report([0, 1], 6, seed=1)
    frame = pd.DataFrame({"size": range(6)}, index=names)
    report.index = frame.index[report["index"]]
    opened(browser, tmp_path / "rows.html", report, frame)
    assert shown(browser) == list(report.index)
    press(browser, "tttttt")
    path = saved(browser, "rows")
    y = pd.Series(given_labels(report).astype(int), index=names, name="y")
    corrected = apply_review(y[::-1], path)
    pd.testing.assert_series_equal(corrected, 1 - y[::-1])


def test_files_are_named(browser, tmp_path):
    report = make_report(["cat", "dog"], 3)
    paths = [tmp_path / f"=image {i}.png" for i in range(3)]
    for path in paths:
        Image.new("L", (4, 4)).save(path)
    opened(browser, tmp_path / "files.html", report, paths)
    press(browser, "tkt")
    path = saved(browser, "files")
    names = pd.read_csv(path)["file"].str.removeprefix("'")
    assert names.tolist() == [paths[i].name for i in report["index"]]
    assert [text_of(browser, f"[data-place='{i}'] .facts") for i in range(3)] == [
        f"{name} · {fact}" for name, fact in zip(names, facts_of(report), strict=True)
    ]
    y = given_labels(report)
    assert (apply_review(y, path) != y).sum() == 2


def facts_of(report):
    return [
        f"seen in {row.layer} · suggestion {row.certainty:.0%} sure".replace("%", " %")
        for row in report.itertuples()
    ]


def test_sorting_filtering_and_searching(browser, tmp_path):
    report = make_report(["cat", "dog"], 30)
    texts = [f"number {i}" for i in range(30)]
    opened(browser, tmp_path / "filter.html", report, texts)
    assert shown(browser) == [f"Sample {i}" for i in report["index"]]
    choose(browser, "sort", "index")
    assert shown(browser) == [f"Sample {i}" for i in range(30)]
    choose(browser, "state", "flagged")
    flagged = sorted(report["index"][report["flagged"]])
    assert shown(browser) == [f"Sample {i}" for i in flagged]
    choose(browser, "state", "all")
    choose(browser, "search", "Number 17")
    assert shown(browser) == ["Sample 17"]
    press(browser, "k")
    choose(browser, "state", "open")
    assert shown(browser) == []
    assert find(browser, "#nothing")[0].is_displayed()
    choose(browser, "search", "")
    assert len(shown(browser)) == 29
    cats = str(
        browser.execute_script("return document.getElementById('given').options[1].value")
    )
    choose(browser, "given", cats)
    kept = report[(report["given"] == "cat") & (report["index"] != 17)]
    assert len(shown(browser)) == len(kept)


def test_two_thousand_rows_are_made_as_they_are_reached(browser, tmp_path):
    report = make_report(LABELS, 2000)
    opened(browser, tmp_path / "many.html", report, ["a long text " * 20] * 2000)
    assert len(find(browser, ".card")) <= 120
    choose(browser, "sort", "index")
    press(browser, "\ue014" * 3)
    before = len(find(browser, ".card"))
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    wait_for(lambda: len(find(browser, ".card")) > before)
    assert before < len(find(browser, ".card")) < 2000


@pytest.mark.parametrize(("width", "kind"), [(390, k) for k in KINDS] + [(1280, "table")])
def test_the_page_is_no_wider_than_the_window(browser, tmp_path, width, kind):
    X, settings = KINDS[kind]
    opened(browser, tmp_path / "wide.html", make_report(LABELS, 12), X, **settings)
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide == width
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('.choices button')]"
            ".map((b) => b.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 40
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(browser, tmp_path, scheme):
    opened(browser, tmp_path / "page.html", make_report(), ["a text"] * 6)
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    press(browser, "kt")
    for selector in (".given", ".word", ".facts", ".likely", ".verdict", "#download"):
        assert contrast(browser, selector) >= 4.5, selector
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(browser, selector):
    """WCAG's contrast of a text to the ground that it stands on."""
    colors = browser.execute_script(
        "let e = document.querySelector(arguments[0]), ground;"
        "const ink = getComputedStyle(e).color; while (!ground || ground.endsWith(' 0)')) {"
        "ground = getComputedStyle(e).backgroundColor; e = e.parentElement; }"
        "return [ink, ground]",
        selector,
    )
    light, dark = sorted((luminance(color) for color in colors), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color):
    parts = np.array([int(part) for part in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_every_control_has_a_name(browser, tmp_path):
    opened(browser, tmp_path / "page.html", make_report(), ["a text"] * 6)
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('button, input, select, progress')]"
        ".filter((e) => !(e.textContent.trim() && e.matches('button')) && !e.ariaLabel"
        " && !(e.labels && e.labels.length)).map((e) => e.outerHTML)"
    )
    assert nameless == []


# Without a browser --------------------------------------------------------------------


def test_json_cannot_leave_its_element():
    data = {"<!--": f"{HOSTILE}&\u2028\u2029\udce4 ü"}
    text = as_json(data)
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", text)
    assert json.loads(text) == data


def test_data_cannot_stand_in_for_a_part_of_the_page():
    review = {"title": "{{program}}", "classes": [], "rows": [], "kind": "text"}
    page = page_of(review, ["{{review}}"] * 120)
    assert "<title>{{program}}</title>" in page
    assert page.count("{{review}}") == 120
    assert page.count('id="contents-') == 3
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"?http", page)


def test_progress_belongs_to_one_report():
    def key(rows):
        page = page_of({"title": "", "classes": [], "rows": rows}, [])
        return re.search(r"sknonlin-review-\w+", page)[0]

    assert key([1]) == key([1]) != key([2])
