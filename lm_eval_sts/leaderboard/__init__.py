"""The leaderboard: registered settings, submissions, seals, and the board that is computed from them."""
