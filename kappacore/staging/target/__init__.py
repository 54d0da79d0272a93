"""What is at the target, and how a copy gets there."""
