"""Objects of many recordings together: what they look like, which are of one kind, and which come back."""
