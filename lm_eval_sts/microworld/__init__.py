"""The embedded default: a small synthetic world with a model, its SAE, domains and SFT sets."""
