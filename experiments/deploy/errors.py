"""What goes wrong with a deployment, in one sentence with the remedy."""


class DeployError(ValueError):
    """Something the operator can put right: exit code 2."""


class ProcessError(RuntimeError):
    """A process of Flower that failed: exit code 1; the message has the end of its log."""
