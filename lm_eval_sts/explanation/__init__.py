"""What a prediction rests on: the shifted features, additively by domain."""
