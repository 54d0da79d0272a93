"""What is at the target, and what becomes of it."""
