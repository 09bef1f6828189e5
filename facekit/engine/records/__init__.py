"""What a run was: run.json, the environment, and doing it again."""
