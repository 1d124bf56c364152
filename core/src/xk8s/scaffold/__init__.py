"""New overlays from a template (`xk8s new`)."""
