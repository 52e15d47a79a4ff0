"""Asking a vision-language model for a plan: templates, the conversation, what is asked again, votes, a second look."""
