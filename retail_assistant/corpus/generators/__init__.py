"""What puts briefs into words: templates, or a language model."""
