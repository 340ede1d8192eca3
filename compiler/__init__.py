"""The pipeline: a model enters `trace`, becomes IR, blocks, an e-graph, a choice, and leaves verified for a backend."""
