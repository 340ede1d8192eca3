"""Generation: a causal language model of transformers as programs over a key/value cache of fixed size."""
