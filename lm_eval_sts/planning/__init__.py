"""What predicting, fine-tuning and measuring cost, from configurations alone."""
