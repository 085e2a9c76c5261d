"""What processes tell of themselves: logs, and traces that lead through several of them."""
