"""The cache: answers found again by the same request or by the same meaning."""
