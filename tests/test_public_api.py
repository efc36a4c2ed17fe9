"""The public names, their parameters and their modules: what users rely on."""

import importlib
import inspect
import pathlib

import pytest

import sknonlin

NAMES = {
    "sknonlin": [
        "ActivationNonlinearity",
        "LayerProfile",
        "MemorizationDetector",
        "NMFPath",
        "NetworkComparison",
        "RankBounds",
        "__version__",
        "compare_networks",
        "layer_profile",
        "nmf_path",
        "nnls",
        "rank_bounds",
    ],
    "sknonlin.batches": ["draw_batches", "make_batches", "make_reference_batches"],
    "sknonlin.callbacks": [
        "MemorizationStopping",
        "NonlinearityMonitor",
        "NonlinearityScoring",
    ],
    "sknonlin.curves": ["area_under_curve", "area_weights"],
    "sknonlin.datasets": [
        "load_digits",
        "load_fashion_mnist",
        "make_noisy_labels",
        "make_spoken_digits",
    ],
    "sknonlin.inspection": [
        "LayerProfileDisplay",
        "MemorizedSamplesDisplay",
        "NetworkComparisonDisplay",
        "RankCurveDisplay",
        "TrainingDisplay",
    ],
    "sknonlin.metrics": ["memorization_scorer", "neg_memorization_scorer"],
    "sknonlin.review": [
        "apply_review",
        "corrected_labels",
        "to_datalab",
        "to_label_studio",
        "write_review",
    ],
}
SETTINGS = "solver max_iter tol max_rows"
PARAMETERS = {
    "sknonlin.nmf_path": f"X ranks {SETTINGS} device random_state working_memory verbose",
    "sknonlin.rank_bounds": "A tol max_time random_state",
    "sknonlin.nnls": "X components device",
    "sknonlin.layer_profile": "net X y layers ranks compression batch_size n_batches "
    "by_class cumulative replay n_jobs working_memory random_state verbose settings",
    "sknonlin.ActivationNonlinearity": f"ranks compression by_class {SETTINGS} n_draws "
    "device random_state working_memory n_jobs verbose",
    "sknonlin.MemorizationDetector": "estimator classes nonlinearity layers batch_size "
    "n_batches contamination reference memory n_jobs working_memory random_state verbose",
    "sknonlin.callbacks.NonlinearityScoring": "name layers every unit ranks batch_size "
    "n_batches n_samples random_state",
    "sknonlin.callbacks.MemorizationStopping": "name layers every unit load_best "
    "average sink ranks batch_size n_batches n_samples random_state",
    "sknonlin.callbacks.NonlinearityMonitor": "X y layers ranks batch_size n_batches "
    "n_samples random_state",
    "sknonlin.review.write_review": "report path X kind class_names title max_rows "
    "image_shape thumbnail_size feature_names n_features sampling_rate decode",
    "sknonlin.review.apply_review": "y decisions allow_new",
    "sknonlin.review.corrected_labels": "report threshold min_certainty y",
    "sknonlin.datasets.make_noisy_labels": "y p random_state kind X transition",
    "sknonlin.datasets.make_spoken_digits": "n_samples random_state data_home return_X_y",
}


@pytest.mark.parametrize("module", NAMES)
def test_names(module):
    found = importlib.import_module(module)
    for name in NAMES[module]:
        assert hasattr(found, name), name
    assert sorted(getattr(found, "__all__", NAMES[module])) == NAMES[module]


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters(path):
    module, _, name = path.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    assert list(signature.parameters) == PARAMETERS[path].split()


def test_types_are_there_for_those_who_check_them():
    assert (pathlib.Path(sknonlin.__file__).parent / "py.typed").exists()
    for path in PARAMETERS:
        module, _, name = path.rpartition(".")
        signature = inspect.signature(getattr(importlib.import_module(module), name))
        for parameter in signature.parameters.values():
            assert parameter.annotation is not parameter.empty, f"{path}: {parameter}"
