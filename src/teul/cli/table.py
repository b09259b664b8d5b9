"""Every command by name: the module that has it, the name it has there, and one line about it.

The dispatcher loads the module of one command; this table spares it the other modules. A module of
`teul.cli.commands` names its commands in capitals, as the second column says.
"""

from __future__ import annotations

# name: (module, object in it, summary). Sorted as the help lists them: docker's common commands first, in docker's order.
Row = tuple[str, str, str]

COMMON: dict[str, Row] = {
    "run": ("run", "RUN", "Create and run a new container from an image"),
    "exec": ("exec", "EXEC", "Execute a command in a running container"),
    "ps": ("ps", "PS", "List containers"),
    "pull": ("pull", "PULL", "Download an image from a registry"),
    "push": ("pull", "PUSH", "Upload an image to a registry"),
    "images": ("images", "IMAGES", "List images"),
    "login": ("login", "LOGIN", "Authenticate to a registry"),
    "logout": ("login", "LOGOUT", "Log out from a registry"),
    "search": ("search", "SEARCH", "Search Docker Hub for images"),
    "version": ("version", "VERSION", "Show the Teul version information"),
    "info": ("info", "INFO", "Display system-wide information"),
}
COMMANDS: dict[str, Row] = {
    "attach": ("attach", "ATTACH", "Attach local standard input, output, and error streams to a running container"),
    "commit": ("commit", "COMMIT", "Create a new image from a container's changes"),
    "cp": ("copy", "COPY", "Copy files/folders between a container and the local filesystem"),
    "create": ("create", "CREATE", "Create a new container"),
    "diff": ("save", "DIFF", "Inspect changes to files or directories on a container's filesystem"),
    "events": ("events", "EVENTS", "Get real time events from the server"),
    "export": ("save", "EXPORT", "Export a container's filesystem as a tar archive"),
    "history": ("history", "HISTORY", "Show the history of an image"),
    "import": ("load", "IMPORT", "Import the contents from a tarball to create a filesystem image"),
    "inspect": ("inspect", "INSPECT", "Return low-level information on Docker objects"),
    "kill": ("lifecycle", "KILL", "Kill one or more running containers"),
    "load": ("load", "LOAD", "Load an image from a tar archive or STDIN"),
    "logs": ("logs", "LOGS", "Fetch the logs of a container"),
    "outdated": ("renew", "OUTDATED", "List containers whose image reference means another image by now"),
    "pause": ("lifecycle", "PAUSE", "Pause all processes within one or more containers"),
    "port": ("port", "PORT", "List port mappings or a specific mapping for the container"),
    "rename": ("lifecycle", "RENAME", "Rename a container"),
    "renew": ("renew", "RENEW", "Have a container of a newer image, or with other options, take the place of one"),
    "restart": ("lifecycle", "RESTART", "Restart one or more containers"),
    "rm": ("lifecycle", "REMOVE", "Remove one or more containers"),
    "rmi": ("images", "REMOVE", "Remove one or more images"),
    "rollback": ("renew", "ROLLBACK", "Have a container as one of its former generations was"),
    "save": ("save", "SAVE", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "serve": ("serve", "SERVE", "Run the engine in the foreground"),
    "start": ("start", "START", "Start one or more stopped containers"),
    "stats": ("stats", "STATS", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("lifecycle", "STOP", "Stop one or more running containers"),
    "tag": ("images", "TAG", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": ("lifecycle", "TOP", "Display the running processes of a container"),
    "unpause": ("lifecycle", "UNPAUSE", "Unpause all processes within one or more containers"),
    "update": ("update", "UPDATE", "Update configuration of one or more containers"),
    "wait": ("lifecycle", "WAIT", "Block until one or more containers stop, then print their exit codes"),
}
GROUPS: dict[str, tuple[str, dict[str, Row]]] = {
    "container": (
        "Manage containers",
        {
            "attach": COMMANDS["attach"],
            "commit": COMMANDS["commit"],
            "cp": COMMANDS["cp"],
            "create": COMMANDS["create"],
            "diff": COMMANDS["diff"],
            "exec": COMMON["exec"],
            "export": COMMANDS["export"],
            "history": ("renew", "GENERATIONS", "Show the generations of a container: what was renewed, and when"),
            "inspect": ("inspect", "INSPECT_CONTAINER", "Display detailed information on one or more containers"),
            "kill": COMMANDS["kill"],
            "logs": COMMANDS["logs"],
            "ls": COMMON["ps"],
            "outdated": COMMANDS["outdated"],
            "pause": COMMANDS["pause"],
            "port": COMMANDS["port"],
            "prune": ("prune", "PRUNE_CONTAINERS", "Remove all stopped containers"),
            "rename": COMMANDS["rename"],
            "renew": COMMANDS["renew"],
            "restart": COMMANDS["restart"],
            "rm": COMMANDS["rm"],
            "rollback": COMMANDS["rollback"],
            "run": COMMON["run"],
            "start": COMMANDS["start"],
            "stats": COMMANDS["stats"],
            "stop": COMMANDS["stop"],
            "top": COMMANDS["top"],
            "unpause": COMMANDS["unpause"],
            "update": COMMANDS["update"],
            "wait": COMMANDS["wait"],
        },
    ),
    "image": (
        "Manage images",
        {
            "history": COMMANDS["history"],
            "import": COMMANDS["import"],
            "inspect": ("inspect", "INSPECT_IMAGE", "Display detailed information on one or more images"),
            "load": COMMANDS["load"],
            "ls": COMMON["images"],
            "pack": ("pack", "PACK", "Make an image out of programs of this host"),
            "prune": ("prune", "PRUNE_IMAGES", "Remove unused images"),
            "pull": COMMON["pull"],
            "pull-from": ("move", "PULL_FROM", "Fetch images from another engine, without the blobs that are here"),
            "push": COMMON["push"],
            "push-to": ("move", "PUSH_TO", "Send images to another engine, without the blobs that it has"),
            "rm": COMMANDS["rmi"],
            "save": COMMANDS["save"],
            "tag": COMMANDS["tag"],
        },
    ),
    "manifest": (
        "Manage Docker image manifests and manifest lists",
        {
            "annotate": ("manifest", "ANNOTATE", "Add additional information to a local image manifest"),
            "create": ("manifest", "CREATE", "Create a local manifest list for annotating and pushing to a registry"),
            "inspect": ("manifest", "INSPECT", "Display an image manifest, or manifest list"),
            "push": ("manifest", "PUSH", "Push a manifest list to a repository"),
            "rm": ("manifest", "REMOVE", "Delete one or more manifest lists from local storage"),
        },
    ),
    "mount": (
        "Manage mounts of containers, also of running ones",
        {
            "add": ("mount", "ADD", "Mount more in a container, also while it runs"),
            "ls": ("mount", "LIST", "List mounts of a container"),
            "rm": ("mount", "REMOVE", "Take mounts of a container away, also while it runs"),
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": ("network", "CONNECT", "Connect a container to a network"),
            "create": ("network", "CREATE", "Create a network"),
            "disconnect": ("network", "DISCONNECT", "Disconnect a container from a network"),
            "egress": ("egress", "EGRESS", "Show or change what a container, or a network's containers, may reach beyond it"),
            "explain": ("explain", "EXPLAIN", "Explain how packets get to a container and from it, and where they are dropped"),
            "inspect": ("network", "INSPECT", "Display detailed information on one or more networks"),
            "ls": ("network", "LIST", "List networks"),
            "prune": ("network", "PRUNE", "Remove all unused networks"),
            "rm": ("network", "REMOVE", "Remove one or more networks"),
        },
    ),
    "system": (
        "Manage Teul",
        {
            "check": ("check", "CHECK", "Check everything that is stored against its digests"),
            "df": ("df", "DF", "Show Teul disk usage"),
            "dial-stdio": ("dial_stdio", "DIAL_STDIO", "Proxy the stdio stream to the daemon connection. Should not be invoked manually."),
            "events": COMMANDS["events"],
            "info": COMMON["info"],
            "prune": ("prune", "PRUNE_SYSTEM", "Remove unused data"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "clone": ("volume_archives", "CLONE", "Copy a volume into a new one"),
            "create": ("volume", "CREATE", "Create a volume"),
            "export": ("volume_archives", "EXPORT", "Export what is in a volume as a tar archive"),
            "import": ("volume_archives", "IMPORT", "Import the contents of a tar archive into an empty volume"),
            "inspect": ("volume", "INSPECT", "Display detailed information on one or more volumes"),
            "ls": ("volume", "LIST", "List volumes"),
            "prune": ("volume", "PRUNE", "Remove unused local volumes"),
            "rm": ("volume", "REMOVE", "Remove one or more volumes"),
            "update": ("volume", "UPDATE", "Update a volume (cluster volumes only)"),
        },
    ),
}
# Commands that the help of their group does not list.
HIDDEN = {("system", "dial-stdio"), ("volume", "update"), *(("manifest", verb) for verb in ("annotate", "create", "push", "rm"))}
# Further names that docker gives to commands inside of groups.
ALIASES = {
    ("container", "ps"): "ls",
    ("container", "list"): "ls",
    ("container", "remove"): "rm",
    ("image", "list"): "ls",
    ("image", "remove"): "rm",
    ("network", "list"): "ls",
    ("network", "remove"): "rm",
    ("volume", "list"): "ls",
    ("volume", "remove"): "rm",
}
