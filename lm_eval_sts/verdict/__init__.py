"""What a finished run says: its records read again, and the verdict in words."""
