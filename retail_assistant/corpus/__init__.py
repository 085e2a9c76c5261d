"""The corpus stage: product splits, generated dialogues, screens, and the prompt renderer."""
