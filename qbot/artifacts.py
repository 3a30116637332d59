"""Trained predictors on disk: their hash, their loading, and the few a process keeps in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.calibration import Calibration
from qbot.errors import ArtifactError
from qbot.features import FEATURES, feature_names
from qbot.inference import Predict, fastest
from qbot.limits import TICKER_COLUMNS_MAX
from qbot.training_types import RECORD, ArtifactRecord

RECORD_FILE = "artifact.json"
CACHE_MAX = 6  # the standing artifact of each horizon, and its successor while they change over

_cache: OrderedDict[tuple[str, str], Artifact] = OrderedDict()


@dataclass(frozen=True)
class Artifact:
    """One horizon's predictor, held in memory, with the record of how it was made."""

    artifact_id: str
    record: ArtifactRecord
    _predict: Predict

    @property
    def calibration(self) -> Calibration:
        """How far its forecasts can be trusted."""
        return self.record.calibration

    @property
    def skilled(self) -> bool:
        """True when it beat the naive forecast on unseen days."""
        return self.record.skilled

    def predict(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Returns as fractions for rows of `build_features`, whatever its `symbols` were; NaN for tickers not trained.

        Raises ArtifactError when a feature is missing or the predictor breaks.
        """
        return predict_all({0: self}, rows)[0]

    def _returns(self, inputs: pd.DataFrame) -> npt.NDArray[np.float64]:
        try:
            return self._predict(inputs)
        except Exception as error:
            raise ArtifactError(f"{self.artifact_id} cannot predict: {error}") from error


def predict_all(artifacts: Mapping[int, Artifact], rows: pd.DataFrame) -> dict[int, npt.NDArray[np.float64]]:
    """What each artifact's `predict` says; those that were trained on the same tickers share one input."""
    missing = set(FEATURES) - set(rows.columns)
    if missing:
        names = ", ".join(artifact.artifact_id for artifact in artifacts.values())
        raise ArtifactError(f"for {names} the rows lack the features {sorted(missing)}")
    inputs: dict[tuple[str, ...], tuple[npt.NDArray[np.bool_], pd.DataFrame]] = {}
    found = {}
    for key, artifact in artifacts.items():
        symbols = artifact.record.symbols
        if symbols not in inputs:
            known = rows["symbol"].isin(symbols).to_numpy()
            inputs[symbols] = known, model_input(rows[known], symbols)
        known, of_known = inputs[symbols]
        found[key] = np.full(len(rows), np.nan)
        if known.any():
            found[key][known] = artifact._returns(of_known)
    return found


def model_input(rows: pd.DataFrame, symbols: tuple[str, ...]) -> pd.DataFrame:
    """The columns of `feature_names`, which a predictor is trained on and asked with; features as float32."""
    names = rows["symbol"].to_numpy(dtype=object)
    tickers = {f"ticker_{symbol}": (names == symbol).astype("int8") for symbol in symbols[:TICKER_COLUMNS_MAX]}
    features = {name: rows[name].to_numpy(dtype="float32") for name in FEATURES}
    return pd.DataFrame(tickers | features, index=rows.index)


def folder_sha256(path: Path) -> str:
    """Hash over the names and contents of all files under `path`. Raises ArtifactError when there is none."""
    try:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        if not files:
            raise ArtifactError(f"no artifact at {path}")
        total = hashlib.sha256()
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(path).as_posix()} {content}\n".encode())
    except OSError as error:
        raise ArtifactError(f"the artifact at {path} cannot be read: {error}") from error
    return total.hexdigest()


def load(path: Path, sha256: str) -> Artifact:
    """The artifact at `path`, from memory when this process has it already.

    The hash is checked before anything is unpickled. Raises ArtifactError when the artifact is missing, corrupt, or
    not the one that was recorded.
    """
    key = (str(path), sha256)
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    found = folder_sha256(path)
    if found != sha256:
        raise ArtifactError(f"the artifact at {path} is not the recorded one: {found[:16]} instead of {sha256[:16]}")
    artifact = _read(path, sha256)
    _cache[key] = artifact
    while len(_cache) > CACHE_MAX:
        _cache.popitem(last=False)
    return artifact


def forget() -> None:
    """Empties this process' cache."""
    _cache.clear()


def _read(path: Path, sha256: str) -> Artifact:
    """Unpickles a predictor whose hash was checked."""
    from autogluon.tabular import TabularPredictor  # takes seconds to import; only processes that predict pay

    try:
        record = RECORD.validate_json((path / RECORD_FILE).read_bytes())
        predictor = TabularPredictor.load(str(path), verbosity=0)
        predictor.persist(models="all", max_memory=None)
        predict = fastest(predictor, feature_names(record.symbols))
    except Exception as error:
        raise ArtifactError(f"the artifact at {path} cannot be loaded: {error}") from error
    return Artifact(f"h{record.horizon_minutes}-{sha256[:16]}", record, predict)
