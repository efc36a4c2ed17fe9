# RcppML's factorizations of one matrix at every rank; called by nmf_path.py.
# Prints the seconds that they took, and then the relative errors.
arguments <- commandArgs(trailingOnly = TRUE)
suppressMessages(library(RcppML))
size <- as.integer(arguments[2:3])
ranks <- as.integer(strsplit(arguments[4], ",")[[1]])
setRcppMLthreads(as.integer(arguments[5]))
A <- t(matrix(readBin(arguments[1], "double", prod(size)), size[2], size[1]))
invisible(nmf(A[, 1:min(8, size[2])], 1, verbose = FALSE, seed = 1))
start <- proc.time()[["elapsed"]]
errors <- sapply(ranks, function(k) {
  model <- nmf(A, k, verbose = FALSE, seed = 1)
  norm(A - model$w %*% (model$d * model$h), "F") / norm(A, "F")
})
cat(proc.time()[["elapsed"]] - start, errors, "\n")
