"""`python -m unet_med` is the `unet-med` command."""

import sys

from unet_med.cli import main

sys.exit(main())
