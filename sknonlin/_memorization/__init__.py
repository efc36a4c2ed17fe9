"""What a network's activations say of batches, of samples and of a training."""
