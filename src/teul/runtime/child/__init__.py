"""The program that becomes a container's process: enters its namespaces, builds what it will see, drops every privilege, execs.

It is forked from the keeper by way of a starter and must be cheap: `teul.linux` and a few stdlib modules, all imported
before the fork, because after the root has changed there is no standard library to import from.
"""
