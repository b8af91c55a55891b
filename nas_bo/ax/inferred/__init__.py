"""What is inferred from an experiment that was not made with a space of ours."""
