"""From evidence to one score a domain."""
