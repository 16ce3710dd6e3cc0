"""MLflow: one run per `dvc repro`, and the model registry. No other module of the pipeline imports mlflow."""

from pipeline.tracking.model_store import Store, open_store
from pipeline.tracking.stage_log import DATA, StageLog, stage

__all__ = ["DATA", "StageLog", "Store", "open_store", "stage"]
