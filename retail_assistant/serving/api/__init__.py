"""The assistant over HTTP: OpenAI's chat completions, and what an operator needs around them."""
