"""What users start: searches, validations, profiles and all that is done with their results. Only here, and in `nas_bo.cli`, doors
to Optuna, Ax and MLflow are seen together."""
