"""Watch memorization while a network trains, and stop when it begins.

``LightningNonlinearity`` and ``TrainerNonlinearity`` are imported where they are asked for,
as they need PyTorch Lightning and Hugging Face's transformers.
"""

from importlib import import_module
from typing import Any

from sknonlin._memorization.monitor import NonlinearityMonitor
from sknonlin.callbacks._scoring import NonlinearityScoring
from sknonlin.callbacks._stopping import MemorizationStopping

__all__ = ["MemorizationStopping", "NonlinearityMonitor", "NonlinearityScoring"]
#: Classes that need another library, and where they are.
ELSEWHERE = {
    "LightningNonlinearity": "sknonlin.callbacks._lightning",
    "TrainerNonlinearity": "sknonlin.callbacks._trainer",
}


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        return getattr(import_module(ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *ELSEWHERE])
