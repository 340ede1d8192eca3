"""tamago."""
