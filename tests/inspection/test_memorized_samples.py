"""Memorized samples: as images and as tables, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sknonlin import MemorizationDetector
from sknonlin.inspection import MemorizedSamplesDisplay

pytestmark = pytest.mark.filterwarnings("ignore:The network fits")  # a short training


def test_images_with_their_labels(detector, data):
    X, y = data
    report = detector.label_report(X, y).head(5)
    display = MemorizedSamplesDisplay.from_estimator(
        detector, X, y, image_shape=(8, 8), n_samples=5
    )
    np.testing.assert_array_equal(display.index, report["index"])
    np.testing.assert_array_equal(display.samples, X[report["index"]].reshape(-1, 8, 8))
    np.testing.assert_array_equal(display.suggested, report["suggested"])
    np.testing.assert_array_equal(display.scores, report["score"])
    assert display.plot(n_columns=3) is display
    assert display.axes_.shape == (2, 3)
    assert display.figure_ is display.ax_.figure
    assert not display.axes_[1, 2].get_visible()
    first = display.axes_[0, 0]
    np.testing.assert_array_equal(first.images[0].get_array(), display.samples[0])
    sample, given, suggested, score = first.get_title().split("\n")
    assert sample == f"sample {report['index'][0]}"
    assert given == f"given {report['given'][0]}"
    assert suggested == f"suggested {report['suggested'][0]}"
    assert score == f"score {report['score'][0]:.2f}"
    assert "memorization score" in display.ax_.get_title()


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((8, 8), (8, 8)),
        ((1, 8, 8), (8, 8)),
        ((3, 8, 8), (8, 8, 3)),
        ((8, 8, 3), (8, 8, 3)),
        ((8, 8, 1), (8, 8)),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_images_of_all_shapes(detector, data, shape, shown, kind):
    pictures = np.random.default_rng(0).normal(size=(200, *shape))
    display = MemorizedSamplesDisplay.from_estimator(
        detector, *data, images=kind(pictures), n_samples=2
    ).plot()
    assert display.samples.shape == (2, *shown)
    drawn = display.axes_[0, 0].images[0].get_array()
    if len(shown) == 3:
        assert (drawn.min(), drawn.max()) == (0, 1)
        place = pictures[display.index[0]]
        flat = place if shape[-1] == 3 else np.moveaxis(place, 0, -1)
        np.testing.assert_allclose(drawn, (flat - flat.min()) / np.ptp(flat))
    flat = pictures.reshape(200, -1)
    again = MemorizedSamplesDisplay.from_estimator(
        detector, *data, images=flat, image_shape=shape, n_samples=2
    )
    np.testing.assert_array_equal(again.samples, display.samples)


def test_tables_of_features(detector, data):
    X, y = data
    names = [f"pixel{i}" for i in range(64)]
    display = MemorizedSamplesDisplay.from_estimator(
        detector, X, y, n_samples=3, feature_names=names, class_names=list("abcdefghij")
    )
    assert set(display.given) <= set("abcdefghij")
    cells = display.plot(features=["pixel20", "pixel3"]).table_.get_celld()
    texts = [[cells[i, j].get_text().get_text() for j in range(6)] for i in range(4)]
    header = ["sample", "given", "suggested", "memorization score", "pixel20", "pixel3"]
    assert texts[0] == header
    place = display.index[0]
    assert texts[1] == [
        str(place),
        "abcdefghij"[y[place]],
        display.suggested[0],
        f"{display.scores[0]:.2f}",
        f"{X[place, 20]:.6g}",
        f"{X[place, 3]:.6g}",
    ]
    assert display.axes_ is None
    with pytest.raises(ValueError, match=r"'pixel99'\]. Choose among \['pixel0'"):
        display.plot(features=["pixel99"])


def test_columns_of_a_frame_name_the_features(detector, data):
    X, y = data
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(64)])
    settings = {"n_samples": 2}
    shown = MemorizedSamplesDisplay.from_estimator(detector, X, y, images=frame, **settings)
    assert shown.feature_names == list(frame.columns)
    np.testing.assert_array_equal(shown.samples, X[shown.index])
    plain = MemorizedSamplesDisplay.from_estimator(detector, X, y, **settings)
    assert plain.feature_names[:2] == ["x0", "x1"]
    assert len(plain.plot().table_.get_celld()) == 3 * (4 + 6)


def cells_of(display):
    """Texts of a drawn table, by row and column."""
    cells = display.table_.get_celld()
    n_rows, n_columns = map(max, zip(*cells, strict=True))
    return [
        [cells[i, j].get_text().get_text() for j in range(n_columns + 1)]
        for i in range(n_rows + 1)
    ]


def test_tables_show_raw_values(detector, data):
    X, y = data
    raw = pd.DataFrame({"year": 1800 + np.arange(200), "size": X[:, 20] * 1e4, "site": "a"})
    display = MemorizedSamplesDisplay.from_estimator(
        detector, X, y, images=raw, n_samples=3
    ).plot()
    place = display.index[0]
    assert cells_of(display)[0][4:] == ["year", "size", "site"]
    assert cells_of(display)[1][4:] == [
        str(1800 + place),
        f"{raw['size'][place]:.6g}",
        "a",
    ]


def test_pipelines_show_what_goes_into_them(detector, data):
    X, y = data
    frame = pd.DataFrame(X * 16, columns=[f"p{i}" for i in range(64)])
    scaler = FunctionTransformer(lambda X: X.to_numpy() / np.float32(16)).fit(frame)
    pipeline = make_pipeline(scaler, detector)
    display = MemorizedSamplesDisplay.from_estimator(pipeline, frame, y, n_samples=3)
    plain = MemorizedSamplesDisplay.from_estimator(detector, X, y, n_samples=3)
    np.testing.assert_array_equal(display.index, plain.index)
    np.testing.assert_allclose(display.samples, 16 * plain.samples)
    assert display.feature_names == list(frame.columns)


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
def test_texts(detector, data, kind):
    texts = [f"text {i}\nwith many words {'and words ' * 20}" for i in range(200)]
    display = MemorizedSamplesDisplay.from_estimator(
        detector, *data, images=kind(texts), n_samples=3
    ).plot()
    assert display.feature_names == ["text"]
    header, first, *_ = cells_of(display)
    assert header[4:] == ["text"]
    assert first[4].startswith(f"text {display.index[0]} with many words and words")
    assert first[4].endswith(" …")
    assert len(first[4]) <= 80


def test_token_ids_are_decoded(detector, data):
    ids = np.arange(400).reshape(200, 2)
    display = MemorizedSamplesDisplay.from_estimator(
        detector, *data, images=ids, decode=lambda row: f"<{row[0]}>", n_samples=2
    ).plot()
    assert [row[4] for row in cells_of(display)[1:]] == [
        f"<{2 * i}>" for i in display.index
    ]


def test_names_of_some_classes(detector, data):
    named = {"class_names": {3: "three"}, "n_samples": 200}
    display = MemorizedSamplesDisplay.from_estimator(detector, *data, **named)
    assert set(display.given) == {"three", *"012456789"}


def test_what_is_not_flagged_is_grey():
    display = MemorizedSamplesDisplay(
        samples=np.zeros((2, 4, 4)),
        index=np.arange(2),
        given=np.array([0, 1]),
        suggested=np.array([1, 1]),
        scores=np.array([0.5, -0.1]),
        flagged=np.array([True, False]),
    ).plot()
    colors = [cell.title.get_color() for cell in display.axes_[0]]
    assert colors == ["black", "0.45"]
    assert display.ax_.get_title().endswith("(grey: not flagged)")


def test_samples_fill_the_axes_given(detector, data):
    _, axes = plt.subplots(1, 2)
    settings = {"image_shape": (8, 8), "n_samples": 4}
    display = MemorizedSamplesDisplay.from_estimator(detector, *data, **settings)
    display.plot(axes[0], n_columns=2)
    assert display.ax_ is axes[0]
    bounds = axes[0].get_window_extent()
    for cell in display.axes_.flat:
        assert bounds.contains(*cell.get_window_extent().min)
        assert bounds.contains(*cell.get_window_extent().max)
    display.plot(axes[0], n_columns=4)
    assert axes[0].child_axes == list(display.axes_.flat)
    table = MemorizedSamplesDisplay.from_estimator(detector, *data, n_samples=4)
    assert table.plot(axes[1]).table_.axes is axes[1]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "'n_samples' parameter"),
        ({"image_shape": (7, 9)}, ValueError, r"\(7, 9\) does not fit samples of 64"),
        ({"image_shape": (64,)}, ValueError, "does not fit"),
        ({"images": np.zeros((200, 5, 8, 8))}, ValueError, r"\(5, 8, 8\) are neither"),
        ({"decode": 3}, ValueError, "'decode' parameter"),
        ({"images": np.zeros(200)}, ValueError, r"shape \(\) are neither"),
        ({"images": np.zeros((9, 8, 8))}, ValueError, "images has 9 samples.*200"),
        ({"images": {"a": np.zeros((200, 64))}}, TypeError, "images is a dict"),
        ({"class_names": ["a"]}, ValueError, "1 names for 10 classes"),
        ({"feature_names": ["a"]}, ValueError, "1 names, but X has 64 features"),
    ],
)
def test_samples_that_are_refused(detector, data, settings, error, message):
    with pytest.raises(error, match=message):
        MemorizedSamplesDisplay.from_estimator(detector, *data, **settings)


def test_samples_need_a_fitted_detector(net, data):
    with pytest.raises(TypeError, match="is a NeuralNetClassifier; it must be"):
        MemorizedSamplesDisplay.from_estimator(net, *data)
    with pytest.raises(NotFittedError):
        MemorizedSamplesDisplay.from_estimator(MemorizationDetector(), *data)
