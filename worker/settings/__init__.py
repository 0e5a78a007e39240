"""Settings from the environment, prefix ``DSPEX_``, checked before anything connects.

A wrong value, an unknown name or times that do not nest stop the start with a sentence that names the setting.
pydantic-settings lets unknown names pass, so looking for them is ours.

=============  ==========================================================
module         its one responsibility
=============  ==========================================================
`settings`     every setting, its default, and what must hold among them
`profiles`     what is configured of one LM
`environment`  the environment into settings, faults into sentences
`names`        which variables are meant for us
`agreement`    which settings all workers should have alike
=============  ==========================================================
"""

from worker.settings.agreement import settings_hash
from worker.settings.environment import SettingsError, load
from worker.settings.names import PREFIX, RESERVED_PREFIX
from worker.settings.profiles import LMProfile
from worker.settings.settings import Settings

__all__ = ["PREFIX", "RESERVED_PREFIX", "LMProfile", "Settings", "SettingsError", "load", "settings_hash"]
