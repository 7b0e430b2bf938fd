"""The search of the training noise range: short trainings, judged by FID."""
