"""`python -m optoprobe` is the command `optoprobe`."""

import sys

from .cli import main

sys.exit(main())
