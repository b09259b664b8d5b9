"""`python -m teul`: the same as the `teul` command. The engine on demand is started this way."""

from __future__ import annotations

import sys

from teul.cli.main import main

sys.exit(main())
