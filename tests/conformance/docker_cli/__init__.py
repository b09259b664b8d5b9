"""A session with the docker command line, played against dockerd (recorded) and against Teul (compared).

`steps` is the vocabulary, `scenes_*` are the script, `player` plays it, `normalise` takes out what differs from run to run,
`differences` lists what differs on purpose.
"""
