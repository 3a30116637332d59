"""What made an artifact besides its data: the code, the settings, the hyperparameters. Read in the training process."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import qbot
from qbot.training_types import Lineage, TrainingRequest


def lineage(request: TrainingRequest, predictor: Any) -> Lineage:
    """Of an artifact that a request led to. `predictor`: AutoGluon's, fitted."""
    return Lineage(
        code=code_version(),
        hyperparameters_sha256=hyperparameters_sha256(predictor),
        seconds_per_horizon=request.seconds_per_horizon,
        min_rows=request.min_rows,
        span_days=request.span_days,
    )


@lru_cache(maxsize=1)
def code_version() -> str:
    """QBot's version, and the start of a hash over its source: two checkouts of one version may differ."""
    root = Path(qbot.__file__).parent
    total = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        total.update(f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return f"{qbot.__version__}+{total.hexdigest()[:12]}"


def hyperparameters_sha256(predictor: Any) -> str:
    """Hash over the hyperparameters of every model, as AutoGluon ended up with them."""
    names = sorted(predictor.model_names())
    found = {name: predictor.model_hyperparameters(name, output_format="all") for name in names}
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()
