"""Invalidation: tags and dependencies, the log of what was invalidated, and who is told of it."""
