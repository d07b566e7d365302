"""Real clients over gRPC: certificates and keys, Flower's processes, runs, and a demonstration."""
