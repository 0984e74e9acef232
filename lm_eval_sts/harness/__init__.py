"""The door through lm-eval: tasks, runs, results."""
