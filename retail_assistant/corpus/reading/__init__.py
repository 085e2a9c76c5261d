"""Reading a text as a person would: what it names, states, denies, and whether it declines."""
