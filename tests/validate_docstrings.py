"""Run numpydoc's validation over the public names; exit 1 where one does not pass."""

import inspect
import sys
from types import FunctionType

from numpydoc.validate import validate
from skorch.callbacks import Callback

import sknonlin
import sknonlin.batches
import sknonlin.callbacks
import sknonlin.curves
import sknonlin.datasets
import sknonlin.inspection
import sknonlin.review

# Not asked for: extended summaries, See Also and Examples sections everywhere, the
# period and capital rules that mathematical descriptions break, and unnamed returns;
# nor are the parameters of skorch's hooks.
IGNORED = {"ES01", "SA01", "EX01", "GL08", "RT03", "PR08", "PR09", "RT05", "RT02"}


MODULES = (
    sknonlin,
    sknonlin.callbacks,
    sknonlin.datasets,
    sknonlin.inspection,
    sknonlin.review,
)


def public_names():
    yield from (
        "sknonlin.metrics.memorization_scorer",
        "sknonlin.metrics.neg_memorization_scorer",
        "sknonlin.curves.area_under_curve",
        "sknonlin.curves.area_weights",
        "sknonlin.batches.draw_batches",
        "sknonlin.batches.make_batches",
        "sknonlin.batches.make_reference_batches",
    )
    for module in MODULES:
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            yield f"{module.__name__}.{name}"
            if not inspect.isclass(thing):
                continue
            hooks = vars(Callback) if issubclass(thing, Callback) else ()
            for method, function in vars(thing).items():
                public = not method.startswith("_") and method not in hooks
                if isinstance(function, FunctionType | classmethod) and public:
                    yield f"{module.__name__}.{name}.{method}"


errors = [
    f"{name}: {code} {message}"
    for name in public_names()
    for code, message in validate(name)["errors"]
    if code not in IGNORED
]
print("\n".join(errors) or "numpydoc: all public docstrings pass")
sys.exit(bool(errors))
