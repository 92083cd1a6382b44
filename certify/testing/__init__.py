"""For authors of plugins: fakes that implement the real interfaces, and contracts that every implementation must pass."""
