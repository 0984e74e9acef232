"""What is read from the frozen model."""
