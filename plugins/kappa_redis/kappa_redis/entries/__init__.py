"""What is kept on a server: values, what identifies them, and claims; and under which names."""
