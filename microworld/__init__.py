"""The generator of the micro world: questions, SFT sets, model and SAE, and variants of these."""
