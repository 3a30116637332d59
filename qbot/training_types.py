"""What goes into a training run and what comes out, as values that travel as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from qbot.calibration import Calibration
from qbot.drift import DayError
from qbot.promotion import Trial
from qbot.skill import Metrics
from qbot.types import HORIZONS_MINUTES

Trigger = Literal["manual", "deviation", "scheduled"]
Event = Literal["start", "horizon_trained", "finished", "failed"]


@dataclass(frozen=True)
class StandingArtifact:
    """What serves a horizon while another is trained for it, to be held against that on the same rows."""

    artifact_id: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class TrainingRequest:
    """One run. Artifacts go to `folder`/<time of `now`>; a ticker with under `min_rows` usable rows is left out.

    `span_days`: calendar days that the bars were asked for. `standing`: by horizon. `sentiment`: symbol, from when on
    it was known, and the sentiment.
    """

    symbols: tuple[str, ...]
    folder: Path
    now: datetime
    trigger: Trigger
    seconds_per_horizon: int
    min_rows: int
    horizons: tuple[int, ...] = HORIZONS_MINUTES
    span_days: float | None = None
    standing: dict[int, StandingArtifact] = field(default_factory=dict)
    sentiment: tuple[tuple[str, datetime, float], ...] = ()

    @property
    def run_folder(self) -> Path:
        """Where the artifacts of this run stand once it is complete."""
        return self.folder / f"{self.now:%Y%m%dT%H%M%S}"

    @property
    def partial_folder(self) -> Path:
        """Where they grow until then; nothing is ever loaded from it."""
        return self.run_folder.with_suffix(".partial")


@dataclass(frozen=True)
class TrainingProgress:
    """The documented fields of `ml_training_status`. `stage`: query_data, training_horizon_<h>, complete or failed."""

    active: bool
    stage: str
    progress: float
    trigger: Trigger
    event: Event
    detail: str
    started: datetime
    updated: datetime


@dataclass(frozen=True)
class Lineage:
    """What made an artifact besides its data. `code`: QBot's version and a hash over its source."""

    code: str
    hyperparameters_sha256: str
    seconds_per_horizon: int
    min_rows: int
    span_days: float | None


@dataclass(frozen=True)
class ArtifactRecord:
    """Stored as artifact.json beside the predictor: all that is needed to use and to judge it.

    `left_out`: candidates that could not be fitted in the time and memory there was. `autoregression` holds the errors
    of that baseline on the same unseen rows as `metrics`. `warnings` are for a human. `skilled`: by its
    own measure. Whether it counts as skilled is the promotion's to say, and stands in Postgres.
    """

    horizon_minutes: int
    trained_at: datetime
    symbols: tuple[str, ...]
    features: tuple[str, ...]
    models: tuple[str, ...]
    metrics: Metrics
    calibration: Calibration
    skilled: bool
    degraded: bool
    data_from: datetime
    data_to: datetime
    test_days: tuple[date, ...]
    fit_rows: int
    autogluon_version: str
    left_out: tuple[str, ...] = ()
    autoregression: Metrics | None = None
    autoregression_coefficients: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    reference_days: tuple[DayError, ...] = ()  # calibration and test days: what later ones are compared with
    lineage: Lineage | None = None
    trial: Trial | None = None


@dataclass(frozen=True)
class HorizonResult:
    """One finished artifact: where it stands, and the hash over all its files without which it is not loaded."""

    path: Path
    sha256: str
    record: ArtifactRecord

    @property
    def artifact_id(self) -> str:
        """Names the artifact in forecasts: its horizon and the start of its hash."""
        return f"h{self.record.horizon_minutes}-{self.sha256[:16]}"


@dataclass(frozen=True)
class TrainingResult:
    """Everything `last_training_stats`, `model_*` and the artifact table need. Rows are (ticker, bar) pairs.

    `filtered_rows` have sane prices; `clean_rows` are of included tickers and have a label for the first horizon.
    `degraded_mode`: no ticker reached min_rows, so all were taken; such artifacts never count as skilled.
    """

    trigger: Trigger
    started: datetime
    finished: datetime
    raw_rows: int
    filtered_rows: int
    clean_rows: int
    tickers_included: tuple[str, ...]
    tickers_excluded: tuple[str, ...]
    min_rows: int
    degraded_mode: bool
    data_from: datetime
    data_to: datetime
    horizons: dict[int, HorizonResult]


REQUEST = TypeAdapter(TrainingRequest)
PROGRESS = TypeAdapter(TrainingProgress)
RECORD = TypeAdapter(ArtifactRecord)
RESULT = TypeAdapter(TrainingResult)
