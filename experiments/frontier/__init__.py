"""What privacy costs in utility: methods, mechanisms and epsilons on the same users."""
