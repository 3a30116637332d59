"""What trained base models answer together, in a part of the time that AutoGluon takes for it.

The answer is the plain mean of what they say. A fitted ensemble of forecasts this weak chooses by the noise of its few
tuning days, most often one model alone, and the worst one as often as the best; the mean is hard to beat (Timmermann
2006, "Forecast combinations").

`TabularPredictor.predict` prepares, checks and converts its frame anew for every model: it is made for tables of any
kind. Ours hold numbers alone, so one array serves every model, and each does its own work in its own library. The short
way is taken only where it gives the predictor's own numbers on made-up rows; else the predictor is asked as always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.float32]
Predict = Callable[[pd.DataFrame], Array]

TOLERANCE = 1e-9  # of a return; AutoGluon rounds what each model says to float32, which is less …
ROUNDING = 1e-6  # … but for the large returns that the linear model sees in made-up rows: as a share of them
_PROBE_ROWS = 256


@dataclass(frozen=True)
class Base:
    """One base model: which of the input's columns it wants, and its library's answer."""

    name: str
    columns: list[int]
    answer: Callable[[Inputs], Array]


@dataclass(frozen=True)
class ShortWay:
    """The mean of what the base models say."""

    bases: tuple[Base, ...]

    def __call__(self, inputs: pd.DataFrame) -> Array:
        """Returns as fractions, one a row of `inputs`: the columns the predictor was trained on, in their order."""
        values = inputs.to_numpy(dtype=np.float32)
        total = np.zeros(len(values))
        for base in self.bases:
            total += base.answer(values[:, base.columns])
        return total / len(self.bases)


def average(predictor: Any, inputs: pd.DataFrame) -> Array:
    """The mean of what the predictor's models say, by AutoGluon's own way: returns as fractions."""
    answers = [predictor.predict(inputs, model=name, as_pandas=False) for name in predictor.model_names()]
    return np.asarray(np.mean(answers, axis=0, dtype=float), dtype=float)


def fastest(predictor: Any, columns: Sequence[str]) -> Predict:
    """How to ask a loaded predictor that was trained on `columns`."""

    def long_way(inputs: pd.DataFrame) -> Array:
        return average(predictor, inputs)

    from lightgbm.basic import LightGBMError

    try:
        found = short_way(predictor, columns)
        if found is not None:
            probe = _probe(columns)
            if np.allclose(found(probe), long_way(probe), rtol=ROUNDING, atol=TOLERANCE):
                return found
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, LightGBMError):
        return long_way  # another version of a library, that keeps its things elsewhere
    return long_way


def short_way(predictor: Any, columns: Sequence[str]) -> ShortWay | None:
    """The predictor's models as their libraries know them; None when one is of a kind that is not known here."""
    trainer, bases = predictor._trainer, []
    for name in predictor.model_names():
        model = trainer.load_model(name)
        answer = _ANSWERS.get(type(model).__name__)
        wanted = _wanted(model)
        if answer is None or not set(wanted) <= set(columns):
            return None
        bases.append(Base(name, [columns.index(feature) for feature in wanted], answer(model)))
    return ShortWay(tuple(bases))


def _wanted(model: Any) -> list[str]:
    """The columns that reach a model's library: it drops those that were constant, or empty, when it was fitted."""
    return list(model.features if model._is_features_in_same_as_ex else model._features_internal_to_align)


def _lightgbm(model: Any) -> Callable[[Inputs], Array]:
    def answer(values: Inputs) -> Array:
        return np.asarray(model.model.predict(values, num_threads=0), dtype=float)  # 0: as many as OpenMP may

    return answer


def _extra_trees(model: Any) -> Callable[[Inputs], Array]:
    def answer(values: Inputs) -> Array:
        return np.asarray(model.model.predict(np.where(np.isnan(values), np.float32(0.0), values)), dtype=float)

    return answer


def _linear(model: Any) -> Callable[[Inputs], Array]:
    def answer(values: Inputs) -> Array:
        frame = pd.DataFrame(values, columns=_wanted(model), copy=False)  # its pipeline goes by names
        return np.asarray(model.model.predict(model._pipeline.transform(frame)), dtype=float)

    return answer


_ANSWERS: dict[str, Callable[[Any], Callable[[Inputs], Array]]] = {
    "LGBModel": _lightgbm,
    "XTModel": _extra_trees,
    "LinearModel": _linear,
}


def _probe(columns: Sequence[str]) -> pd.DataFrame:
    """Made-up rows: every order of magnitude a feature may have, with gaps, and each ticker column on and off."""
    random = np.random.default_rng(0)
    shape = (_PROBE_ROWS, len(columns))
    values = random.normal(size=shape) * 10.0 ** random.uniform(-5.0, 1.0, shape)
    values[random.random(shape) < 0.1] = np.nan
    frame = pd.DataFrame(values.astype("float32"), columns=list(columns))
    tickers = [name for name in columns if name.startswith("ticker_")]
    frame[tickers] = random.random((_PROBE_ROWS, len(tickers))) < 0.5
    return frame.astype(dict.fromkeys(tickers, "int8"))
