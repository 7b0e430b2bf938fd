"""Ray: connecting to a cluster, training on it, and sending it whole stages as jobs."""
