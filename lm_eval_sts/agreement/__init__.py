"""How well a prediction matched an outcome, with its uncertainty."""
