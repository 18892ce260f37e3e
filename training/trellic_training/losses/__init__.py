"""What is minimised: bits, squared error, structure."""
