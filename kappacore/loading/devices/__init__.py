"""Where batches go: the interface of devices, the CPU, and opening one by name."""
