"""Progressive delivery for nginx and Docker, without Kubernetes."""

__version__ = "0.1.0"
