"""MLflow's client: the only folder that imports mlflow."""
