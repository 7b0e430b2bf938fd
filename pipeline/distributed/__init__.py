"""Everything that runs on Ray, and the only folder that imports it."""
