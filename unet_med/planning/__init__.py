"""What the files say, and what follows for a training: decided here, once, with reasons.

`fingerprint` looks at the images and labels, `make_plan` decides, and `lay_bundle` hands the
plan to `unet_med.bundle`, which writes it: `configs/plan.json`, and its ids in every config.
Names load on first use, so that reading a plan needs neither torch nor MONAI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_med.first_use import on_first_use

_MODULE_OF = {
    "DataFolder": "folders",
    "Decision": "plan",
    "Fingerprint": "fingerprints",
    "Plan": "plan",
    "Source": "source",
    "describe": "words",
    "fingerprint": "looking",
    "lay_bundle": "laying",
    "make_plan": "rules",
    "with_replay": "replay",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:  # the same names; a checker reads no table
    from unet_med.planning.fingerprints import Fingerprint as Fingerprint
    from unet_med.planning.folders import DataFolder as DataFolder
    from unet_med.planning.laying import lay_bundle as lay_bundle
    from unet_med.planning.looking import fingerprint as fingerprint
    from unet_med.planning.plan import Decision as Decision
    from unet_med.planning.plan import Plan as Plan
    from unet_med.planning.replay import with_replay as with_replay
    from unet_med.planning.rules import make_plan as make_plan
    from unet_med.planning.source import Source as Source
    from unet_med.planning.words import describe as describe

else:

    def __getattr__(name: str) -> Any:
        return on_first_use(__name__, _MODULE_OF, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
