"""What keeps a provider's trouble from the caller: breakers, a retry budget, learned bounds on the first token."""
