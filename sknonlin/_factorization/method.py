"""Numbers of the method, the same wherever it is computed."""

# The splitting iteration
RHO = 0.2  # penalty, relative to the diagonal of the Gram matrix
RELAXATION = 1.6
N_UPDATE_STEPS = 2  # per factor and alternation
N_FINAL_STEPS = 15  # of the weights in the end
N_SUPPORT_STEPS = 20  # that find which weights are positive

# Pivoting
N_EXCHANGES = 12  # rows that need more are those of degenerate cones
PATIENCE = 3  # exchanges that may leave as many weights infeasible

# The alternation
MOMENTUM = 0.7
CHECK_EVERY = 4

# The start
OVERSAMPLING = 8
N_POWER_ITERATIONS = 3
