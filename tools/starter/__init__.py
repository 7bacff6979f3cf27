"""Makes the bundled suites, the starter model and its quantized checkpoints."""
