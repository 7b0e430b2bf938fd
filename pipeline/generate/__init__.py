"""Any sample from a trained network: drawn in fixed shards, on threads or on Ray, and scored."""
