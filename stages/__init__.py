"""One thin door per DVC stage: read the parameters, call the library, write files."""
