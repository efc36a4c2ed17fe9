"""The examples of the gallery, as a reader comes to them."""

EXAMPLES = (
    *("label_errors", "learned_or_memorized", "phases", "early_stopping", "spoken_digits"),
    *("mlp_classifier", "functional_resnet", "compressions", "grid_search"),
)


def place(filename):
    """Place of an example's file in that order; the last one if it has none."""
    name = filename.removeprefix("plot_").removesuffix(".py")
    return EXAMPLES.index(name) if name in EXAMPLES else len(EXAMPLES)
