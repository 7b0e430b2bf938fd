"""Where the work runs: the Ray that is connected, the device of a process."""
