"""The network agent: a process that does for containers on networks what must go on without an engine; and its client."""
