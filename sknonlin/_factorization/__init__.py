"""Non-negative least squares, the rank path, and the compressions of matrices."""
