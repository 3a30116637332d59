"""The short way to a forecast gives what AutoGluon's own way gives, and is not taken where it would not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from autogluon.tabular import TabularPredictor

from qbot import inference
from qbot.artifacts import model_input
from qbot.features import build_features, feature_names, label_returns
from qbot.inference import ShortWay, fastest, short_way
from qbot.training import fit_predictor
from tests.support.made_up_market import made_up_bars

SYMBOLS = ("AAA", "BBB", "SPY")  # of no sector: columns that are empty are dropped by each model
COLUMNS = feature_names(SYMBOLS)
BARS = made_up_bars(SYMBOLS, sessions=10, seed=2, momentum=0.5)
SENTIMENT = pd.DataFrame({"symbol": "AAA", "time": BARS["ts"].iloc[[100, 400, 700]], "sentiment": [0.1, 0.5, -0.3]})


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    rows = build_features(BARS, (), SENTIMENT)
    rows["session"] = rows["ts"].dt.date
    rows = rows.assign(label=label_returns(BARS, 15)["label_return"]).dropna(subset=["label"])
    days = sorted(set(rows["session"]))
    fit, tune = rows[rows["session"] < days[7]], rows[rows["session"] >= days[7]]
    folder: Path = tmp_path_factory.mktemp("inference") / "predictor"
    fit_predictor(fit, tune, folder, SYMBOLS, 600)  # a limit that a busy machine does not reach: all four are wanted
    loaded = TabularPredictor.load(str(folder), verbosity=0)
    loaded.persist(models="all", max_memory=None)
    yield loaded


def test_every_base_model_and_their_mean_say_the_same_both_ways(predictor: Any) -> None:
    inputs = model_input(build_features(BARS, (), SENTIMENT), SYMBOLS)
    whole = short_way(predictor, COLUMNS)
    assert whole is not None and len(whole.bases) == 4
    answers = []
    for base in whole.bases:
        answers.append(predictor.predict(inputs, model=base.name, as_pandas=False))
        np.testing.assert_allclose(ShortWay((base,))(inputs), answers[-1], rtol=0.0, atol=inference.TOLERANCE)
        assert np.std(answers[-1]) > 1e-6
    np.testing.assert_allclose(whole(inputs), np.mean(answers, axis=0), rtol=0.0, atol=inference.TOLERANCE)
    assert isinstance(fastest(predictor, COLUMNS), ShortWay)


def test_a_model_of_another_kind_or_with_another_answer_is_asked_the_long_way(
    predictor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = model_input(build_features(BARS), SYMBOLS)
    expected = inference.average(predictor, inputs)

    def slightly_wrong(model: Any) -> Any:
        return lambda values: model.model.predict(values) + 1e-6

    for answers in ({}, dict.fromkeys(("LGBModel", "XTModel", "LinearModel"), slightly_wrong)):
        monkeypatch.setattr(inference, "_ANSWERS", answers)
        way = fastest(predictor, COLUMNS)
        assert not isinstance(way, ShortWay)
        np.testing.assert_array_equal(way(inputs), expected)
