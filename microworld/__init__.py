"""The generator of the micro world: questions, SFT sets, model, SAE, and the sweep that measures it."""
