"""What a dataset is staged from."""
