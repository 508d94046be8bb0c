"""What each kind of source does in its own way, in a pass that is otherwise the same for all."""
