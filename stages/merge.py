"""The merge driver of dvc.lock under its name of version 1, which clones have in their git configuration.

`make setup` writes the new name, tools.merge; this module goes with version 3.
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("tools.merge", run_name="__main__")
