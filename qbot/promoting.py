"""What becomes of artifacts once they are trained: judged, made to stand, rolled back, deleted when they are old."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from qbot import artifacts, limits, projections_ml, promotion
from qbot.alerts import alert
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.errors import ArtifactError, RollbackRefused
from qbot.promotion import Standing, Trial, Verdict
from qbot.runtime import Runtime
from qbot.store import deviations, models
from qbot.store import standing as store
from qbot.store.engine import transaction
from qbot.training_types import RECORD, HorizonResult, StandingArtifact, TrainingResult

log = structlog.get_logger(__name__)
QBOT = "qbot"  # who decided, where no human did
_VERDICT = TypeAdapter(Verdict)
_RUN_FOLDER = re.compile(r"\d{8}T\d{6}(\.partial)?")


def to_hold_against(connection: Connection) -> dict[int, StandingArtifact]:
    """What the candidates of a training that begins are compared with, by horizon."""
    return {
        horizon: StandingArtifact(row["artifact_id"], Path(row["path"]), row["sha256"])
        for horizon, row in models.usable(models.standing_artifacts(connection)).items()
    }


def finish(rt: Runtime, training_id: str, result: TrainingResult, now: datetime) -> dict[int, Verdict]:
    """Judge the artifacts of a training that succeeded, and record verdicts, what stands, and the end of the training.

    All in one transaction: what stands is never without its verdict. Old folders go afterwards.
    """
    with transaction(rt.engine) as connection:
        spoilt = _spoilt(models.standing_artifacts(connection))  # before the lock: whole folders are read
    with transaction(rt.engine) as connection:
        store.lock(connection)
        before, counted = models.standing_artifacts(connection), store.trials(connection)
        verdicts = {
            horizon: _judge(done, counted.get(horizon, 0) + 1, before.get(horizon), spoilt)
            for horizon, done in result.horizons.items()
        }
        found = [_row(horizon, done, verdicts[horizon]) for horizon, done in result.horizons.items()]
        told_stats = projections_ml.training_stats(result, rt.wall(), verdicts)
        stats = told_stats.model_dump(mode="json", exclude_unset=True)  # as on the wire: what is not there is no null
        told = [projections_ml.verdict_of(horizon, verdict) for horizon, verdict in verdicts.items()]
        outcome = "; ".join(told)
        models.finish_training(connection, training_id, models.SUCCESS, stats, found, now, rt.wall(), outcome)
        deviations.serve(connection, training_id, result.started)
        for row, verdict in zip(found, verdicts.values(), strict=True):
            _record(rt, connection, row, verdict, now)
        message = ". ".join(told) + "."
        kind = AlertType.SYSTEM_ALERT
        alert(rt, connection, kind, Severity.INFO, "New models were judged", message, about=training_id)
    log.info("judged", training_id=training_id, verdicts=told)
    tidy(rt)
    return verdicts


def _judge(done: HorizonResult, number: int, row: models.Row | None, spoilt: Mapping[str, str]) -> Verdict:
    standing = None
    if row is not None:
        degraded = bool(row["metrics"].get("degraded", False))
        usable = row["unusable"] is None and row["artifact_id"] not in spoilt
        standing = Standing(row["artifact_id"], row["skilled"], degraded, usable)
    record = done.record
    return promotion.judge(record.trial or Trial(), number, degraded=record.degraded, standing=standing)


def _spoilt(standing: Mapping[int, models.Row]) -> dict[str, str]:
    """Why an artifact is not what was recorded, by its id."""
    found = {}
    for row in standing.values():
        problem = _problem(row)
        if problem is not None:
            found[row["artifact_id"]] = problem
    return found


def _problem(row: models.Row) -> str | None:
    try:
        sha256 = artifacts.folder_sha256(Path(row["path"]))
    except ArtifactError as error:
        return str(error)
    return None if sha256 == row["sha256"] else f"the files in {row['path']} are not those that were recorded"


def _row(horizon: int, done: HorizonResult, verdict: Verdict) -> models.Row:
    record = RECORD.dump_python(done.record, mode="json")
    return {
        "artifact_id": done.artifact_id,
        "horizon_minutes": horizon,
        "path": str(done.path),
        "sha256": done.sha256,
        "features": record["features"],
        "metrics": record,
        "skilled": verdict.skilled,
        "standing": verdict.stands,
        "trial": verdict.number,
        "verdict": _VERDICT.dump_python(verdict, mode="json"),
    }


def _record(rt: Runtime, connection: Connection, row: models.Row, verdict: Verdict, now: datetime) -> None:
    event = store.STANDS if verdict.stands else store.REFUSED
    store.note(connection, row, event, verdict.standing_id, QBOT, verdict.why, now, rt.wall())
    if not verdict.demoted or verdict.standing_id is None or verdict.recheck is None:
        return
    days = verdict.recheck.days
    why = f"not better than no change on {days} days after those it was made from"
    store.demote(connection, verdict.standing_id)
    old = {**row, "artifact_id": verdict.standing_id}
    store.note(connection, old, store.DEMOTED, verdict.standing_id, QBOT, why, now, rt.wall())
    title = f"The model {row['horizon_minutes']} minutes ahead lost its skill"
    message = f"{verdict.standing_id} was {why}: it counts as unproven, and trades on the paper exchange only."
    alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message, about=verdict.standing_id)


# --- going back -------------------------------------------------------------------------------------------------------


def roll_back(rt: Runtime, horizon: int, who: str, to: str | None = None) -> tuple[models.Row, models.Row | None]:
    """Let an earlier artifact stand again: `to`, or what stood before the present one. That, and what it replaces.

    The next forecasts come from it. Raises RollbackRefused when there is no such artifact or its files are not the
    recorded ones.
    """
    now, wall = rt.market(), rt.wall()
    with transaction(rt.engine) as connection:
        store.lock(connection)
        rows = {row["artifact_id"]: row for row in store.listed(connection, horizon)}
        present = next((row for row in rows.values() if row["standing"]), None)
        target = _target(connection, horizon, rows, present, to)
        store.stand(connection, target)
        before_id = present["artifact_id"] if present is not None else None
        reason = f"rolled back from {before_id}"
        store.note(connection, target, store.ROLLED_BACK, before_id, who, reason, now, wall)
        message = f"{target['artifact_id']} stands again, {reason}, by {who}."
        title = f"The model {horizon} minutes ahead was rolled back"
        kind = AlertType.SYSTEM_ALERT
        alert(
            rt, connection, kind, Severity.INFO, title, message, about=f"{target['artifact_id']} {wall:%Y%m%dT%H%M%S}"
        )
    return target, present


def _target(
    connection: Connection, horizon: int, rows: Mapping[str, models.Row], present: models.Row | None, to: str | None
) -> models.Row:
    if not rows:
        raise RollbackRefused(f"there is no model {horizon} minutes ahead")
    if to is None and present is not None:
        to = store.replaced_by(connection, present["artifact_id"])
    if to is None:
        raise RollbackRefused("nothing stood before; `--to` names one of those that `qbot models` lists")
    target = rows.get(to)
    if target is None:
        raise RollbackRefused(f"there is no model {to} {horizon} minutes ahead; `qbot models` lists them")
    if target["standing"]:
        raise RollbackRefused(f"{to} stands already")
    problem = _problem(target)
    if problem is not None:
        raise RollbackRefused(f"{to} cannot stand: {problem}")
    return target


# --- old folders ------------------------------------------------------------------------------------------------------


def tidy(rt: Runtime) -> list[Path]:
    """Delete the folders of artifacts that are old: all but what stands, what stood before it, and the newest. Those.

    What is recorded of them stays. A folder that cannot be deleted is left for the next time.
    """
    root = rt.settings.home / "artifacts"
    if not root.is_dir():
        return []
    with transaction(rt.engine) as connection:
        rows = store.listed(connection)
        kept = _kept(connection, rows)
    known = {Path(row["path"]) for row in rows}
    gone = []
    for run in sorted(path for path in root.iterdir() if path.is_dir() and _RUN_FOLDER.fullmatch(path.name)):
        young = datetime.strptime(run.name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) > rt.wall() - timedelta(
            seconds=limits.ORPHANS_KEPT_S
        )
        for folder in sorted(run.iterdir()):
            if folder not in kept and (folder in known or not young):
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder)
        if not any(run.iterdir()) and not young:
            run.rmdir()
    if gone:
        log.info("artifacts_deleted", folders=[str(folder) for folder in gone])
    return gone


def _kept(connection: Connection, rows: Sequence[models.Row]) -> set[Path]:
    """`rows`: all artifacts, newest first."""
    kept, seen = set(), dict.fromkeys((row["horizon_minutes"] for row in rows), 0)
    paths = {row["artifact_id"]: Path(row["path"]) for row in rows}
    for row in rows:
        seen[row["horizon_minutes"]] += 1
        if row["standing"] or seen[row["horizon_minutes"]] <= limits.ARTIFACTS_KEPT:
            kept.add(Path(row["path"]))
        before = store.replaced_by(connection, row["artifact_id"]) if row["standing"] else None
        if before is not None:
            kept.add(paths[before])
    return kept
