"""`python -m benchmarks.synthetic`; see the package."""

import sys

from . import main

sys.exit(main())
