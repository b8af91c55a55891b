"""ROOM 13, execution: what is looked at before the first trial, and where evaluations run."""
