"""Rows count by what they tell, and a candidate that cannot be fitted is left out and named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qbot import candidates, training
from qbot.features import build_features
from qbot.training_types import TrainingRequest
from tests.support.made_up_market import made_up_bars


def rows_of(sessions: int = 4, symbols: tuple[str, ...] = ("AAA", "BBB")) -> pd.DataFrame:
    rows = build_features(made_up_bars(symbols, sessions, seed=2))
    return rows.assign(session=rows["ts"].dt.date)


def test_a_row_counts_by_the_inverse_square_of_its_volatility_within_bounds() -> None:
    rows = rows_of().tail(6).assign(realised_vol_78=[0.001, 0.002, 0.003, 0.1, 1e-6, np.nan])
    found = candidates.weights(rows, 0.001, recency=False)
    assert found.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(found / found[0], [1.0, 1 / 4, 1 / 9, 1 / 9, 9.0, 1.0])


def test_a_row_counts_half_after_the_half_life_and_less_when_others_share_its_time() -> None:
    rows = rows_of(1, ("AAA",)).head(2).assign(realised_vol_78=0.001)
    rows["known_at"] = rows["known_at"].iloc[1] - pd.to_timedelta([candidates.HALF_LIFE_DAYS, 0.0], "D")
    found = candidates.weights(rows, 0.001)
    assert found[0] / found[1] == pytest.approx(0.5)
    together = pd.concat([rows.tail(1)] * 3 + [rows.head(1)])
    found = candidates.weights(together, 0.001, recency=False)
    assert found[0] / found[3] == pytest.approx(1.0 / (1.0 + 2 * candidates.SHARED_NEWS))


def test_without_any_volatility_all_rows_of_a_time_count_the_same() -> None:
    rows = rows_of(1).head(8).assign(realised_vol_78=np.nan)
    assert candidates.typical_volatility(rows) == 1.0
    np.testing.assert_allclose(candidates.weights(rows, 1.0, recency=False), 1.0)


def test_too_many_rows_are_thinned_to_whole_times_from_the_whole_day() -> None:
    rows = rows_of(sessions=8)
    assert candidates.thinned(rows, len(rows)) is rows
    found = candidates.thinned(rows, len(rows) // 4)
    assert len(found) == pytest.approx(len(rows) / 4, rel=0.05)
    assert (found.groupby("ts")["symbol"].nunique() == 2).all()
    assert found["time_of_day"].nunique() == rows["time_of_day"].nunique() == 78
    assert found["session"].nunique() == 8


def test_a_candidate_that_cannot_be_fitted_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(rows: int) -> dict[str, object]:
        found = candidates_of(rows)
        return found | {"XT": [{**found["XT"][0], "max_depth": "no depth"}]}

    candidates_of = candidates.hyperparameters
    monkeypatch.setattr(candidates, "hyperparameters", broken)
    now = datetime(2025, 4, 1, tzinfo=UTC)
    request = TrainingRequest(("AAA", "BBB"), tmp_path, now, "manual", 600, 100, horizons=(15,))
    events: list[str] = []
    result = training.train(
        made_up_bars(("AAA", "BBB"), 10, seed=1), request, lambda event: events.append(event.detail)
    )
    record = result.horizons[15].record
    assert record.left_out == ("ExtraTrees",) and "ExtraTrees" not in record.models
    assert set(candidates.REQUIRED) <= set(record.models) and "LinearModel" in record.models
    assert events[-1].endswith("without ExtraTrees")
