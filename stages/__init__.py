"""One thin entry for each DVC stage: read the parameters, call the library, write files."""

import gc

gc.set_threshold(50_000)  # imports make many objects and no garbage: looking for it took an eighth of their time
