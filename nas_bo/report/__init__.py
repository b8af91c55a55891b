"""ROOM 7, what a search found: tables, pictures, a page to send on, and how far the ranking is to be trusted.

Pure functions of `Trial`s and `ObjectiveSpec`s: nothing here knows Optuna, Ax or MLflow. matplotlib and pandas are imported
by the functions that need them.
"""

from nas_bo.report.agreement import Agreement, agreement
from nas_bo.report.drawing import drawing
from nas_bo.report.importance import Importance, importance
from nas_bo.report.page import page
from nas_bo.report.picture import picture
from nas_bo.report.pictures import all_drawn, pictures
from nas_bo.report.summary import Summary, figure, vocabulary
from nas_bo.report.table import front_markdown, front_text
from nas_bo.report.trials_table import frame, trials_csv
from nas_bo.report.trust import Proxy, TrustReport, trust

__all__ = [
    "Agreement", "Importance", "Proxy", "Summary", "TrustReport", "agreement", "all_drawn", "drawing", "figure",
    "frame", "front_markdown", "front_text", "importance", "page", "picture", "pictures", "trials_csv", "trust",
    "vocabulary",
]  # fmt: skip
