"""Previews: the plan that a pass would make now, and nothing of it recorded or applied."""
