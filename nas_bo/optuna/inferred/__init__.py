"""What is inferred from a study that was not made with a space of ours."""
