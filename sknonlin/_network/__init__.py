"""Networks of three libraries, what they predict, and the activations of their layers."""
