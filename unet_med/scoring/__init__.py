"""Results scored against their truth, and measured without it."""
