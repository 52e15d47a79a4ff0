"""A model's text to a plan."""
