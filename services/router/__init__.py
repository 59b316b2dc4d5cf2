"""The router: who asks, whether it was answered before, which model answers it, and what happens if that one fails."""
