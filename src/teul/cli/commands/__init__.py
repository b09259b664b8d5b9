"""The commands, one module per verb or family of verbs; each is loaded when it is called, by `teul.cli.table`."""
