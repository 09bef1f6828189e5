"""Training and evaluation: free functions over networks, data and metrics."""
