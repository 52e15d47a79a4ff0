"""What is done with a plan: its texts (JSON, tags), boxes on another image, merging, expanding, lint, the report."""
