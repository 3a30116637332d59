"""The standing artifacts in memory. One that cannot be used gives no forecasts, and is told of once, not each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import structlog

from qbot import artifacts, showing_ml
from qbot.alerts import alert
from qbot.artifacts import Artifact
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import ArtifactError
from qbot.runtime import Runtime
from qbot.store import models
from qbot.store import standing as store
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
WHY_MAX = 500  # characters
ADVICE = "QBot trains a new one within about an hour of open market; `qbot models rollback` brings back an older one."


def load(rt: Runtime, standing: Mapping[int, models.Row]) -> dict[int, Artifact]:
    """Those of the standing artifacts that can be loaded, by horizon. Each is read from disk once a process."""
    loaded = {}
    for horizon, row in sorted(standing.items()):
        try:
            loaded[horizon] = artifacts.load(Path(row["path"]), row["sha256"])
        except ArtifactError as error:
            _cannot(rt, row, str(error))
    return loaded


def predict(
    rt: Runtime, loaded: Mapping[int, Artifact], standing: Mapping[int, models.Row], rows: pd.DataFrame
) -> dict[int, npt.NDArray[np.float64]]:
    """Returns by horizon, one a row of `build_features`; none of an artifact that cannot predict."""
    try:
        found = artifacts.predict_all(loaded, rows)
    except ArtifactError:  # one of them, and which: the others go on
        found = {}
        for horizon, artifact in loaded.items():
            try:
                found[horizon] = artifact.predict(rows)
            except ArtifactError as error:
                _cannot(rt, standing[horizon], str(error))
    _mended(rt, [standing[horizon] for horizon in found if standing[horizon]["unusable"] is not None])
    return found


def _mended(rt: Runtime, rows: Sequence[models.Row]) -> None:
    if not rows:
        return
    with transaction(rt.engine) as connection:
        for row in rows:
            store.set_unusable(connection, row["artifact_id"], None)
    log.info("artifacts_usable_again", artifact_ids=[row["artifact_id"] for row in rows])
    showing_ml.training(rt)


def _cannot(rt: Runtime, row: models.Row, why: str) -> None:
    if row["unusable"] is not None:
        log.warning("artifact_still_unusable", artifact_id=row["artifact_id"], why=why)
        return
    horizon = row["horizon_minutes"]
    log.error("artifact_unusable", horizon_minutes=horizon, artifact_id=row["artifact_id"], why=why)
    title = f"No forecasts {horizon} minutes ahead"
    message = f"The model cannot be used: {why[:WHY_MAX]}. {ADVICE}"
    with transaction(rt.engine) as connection:
        store.set_unusable(connection, row["artifact_id"], why[:WHY_MAX])
        kind = AlertType.SYSTEM_ALERT
        alert(rt, connection, kind, Severity.WARNING, title, message, about=row["artifact_id"])
    showing_ml.training(rt)
