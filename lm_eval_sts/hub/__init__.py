"""Exchange over the Hugging Face hub: records in a dataset repository, submissions as pull requests."""
