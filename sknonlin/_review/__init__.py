"""Review of suspicious labels: a page to look at them on, and the decisions made there."""
