"""Records the names that TensorFlow Addons 0.23 exported, where it is installed.

    originals/bin/python tests/migrate/make_addons_exports.py

See `make_legacy_models.py` for `originals`.
"""

import json
import pathlib
import types

import tensorflow_addons as tfa

# What the modules merely imported.
FOREIGN = {"Callable", "List", "Path", "Union", "Version", "get_path_to_datafile"}

exports = {}
for module_name, module in vars(tfa).items():
    if isinstance(module, types.ModuleType) and not module_name.startswith("_"):
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and not isinstance(value, types.ModuleType)
        ]
        exports[module_name] = sorted(set(names) - FOREIGN)
target = pathlib.Path(__file__).parent / "data" / "addons_exports.json"
target.write_text(json.dumps({name: names for name, names in sorted(exports.items()) if names}))
