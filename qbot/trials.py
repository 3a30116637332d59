"""Holds a new artifact against "no change" and against the standing one, on the same rows. Runs where it is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot import artifacts
from qbot.clock import NEW_YORK
from qbot.errors import ArtifactError
from qbot.promotion import Trial, daily
from qbot.training_types import StandingArtifact

Array = npt.NDArray[np.float64]


def hold(rows: pd.DataFrame, actual: Array, predicted: Array, standing: StandingArtifact | None) -> Trial:
    """The trial of a candidate that `predicted` the returns of test rows (of `build_features`, with their `session`).

    A standing artifact that cannot be loaded or asked is no error here: the trial says so.
    """
    sessions = rows["session"].to_numpy(dtype=object)
    days, over_naive = daily(np.abs(actual) - np.abs(actual - predicted), sessions)
    trial = Trial(days, over_naive)
    if standing is None:
        return trial
    trial = replace(trial, standing_id=standing.artifact_id)
    try:
        artifact = artifacts.load(standing.path, standing.sha256)
        # On the day its data end, and before, it has learnt, been calibrated or been chosen by what happened.
        later = np.asarray(sessions > artifact.record.data_to.astimezone(NEW_YORK).date(), dtype=bool)
        theirs = np.full(len(rows), np.nan)
        if later.any():
            theirs[later] = artifact.predict(rows[later])
    except ArtifactError as error:
        return replace(trial, problem=str(error)[:300])
    finally:
        artifacts.forget()  # it is not needed again in this process, which has little memory to spare
    error_theirs = np.abs(actual - theirs)
    later_days, over_standing = daily(error_theirs - np.abs(actual - predicted), sessions)
    _, standing_over_naive = daily(np.abs(actual) - error_theirs, sessions)
    return replace(trial, later_days=later_days, over_standing=over_standing, standing_over_naive=standing_over_naive)
