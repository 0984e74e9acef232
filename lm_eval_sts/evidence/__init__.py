"""What is known of a setting: kinds of evidence, each read once, stored and reused."""
