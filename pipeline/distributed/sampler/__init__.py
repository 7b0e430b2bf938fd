"""The search of the sampler on a trained network: its proposals, their costs, and what is chosen."""
