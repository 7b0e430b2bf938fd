"""One thin entry for each DVC stage: read the parameters, call the library, write files."""
