"""What a shopper asks for, read from the conversation and the catalog index alone."""
