"""Code that is needed once is dropped again."""

import gc
import sys


def forget(package, module):
    """Take `package`.`module` out of memory, if it is there; what still uses it keeps working."""
    if sys.modules.pop(package + "." + module, None):
        delattr(sys.modules[package], module)
    gc.collect()
