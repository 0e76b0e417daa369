"""Trained models as bytes."""

import importlib.metadata
import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any


def model_bytes(model: Any) -> bytes:
    """A Keras archive of a model, whose bytes depend on the model alone.

    The archive that Keras writes also depends on the date and on addresses in memory, which name shared objects.

    Args:
        model: the keras.Model.
    """
    addresses: dict[bytes, int] = {}

    def renamed(match: re.Match[bytes]) -> bytes:
        return match[1] + str(addresses.setdefault(match[2], len(addresses))).encode()

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.keras"
        model.save(path)
        archive = zipfile.ZipFile(path)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as fixed:
            for name in sorted(archive.namelist()):
                content = archive.read(name)
                if name == "metadata.json":
                    content = json.dumps({"keras_version": importlib.metadata.version("keras")}).encode()
                elif name == "config.json":
                    content = re.sub(rb'("shared_object_id": )(\d+)', renamed, content)
                fixed.writestr(zipfile.ZipInfo(name), content)
        archive.close()
    return buffer.getvalue()
