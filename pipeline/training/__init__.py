"""Training without Ray and MLflow: a task, a loop that yields events, checkpoints that are verified."""
