import io
import zipfile

import keras
import pytest

from stages.recipes.shared.saved import model_bytes
from tests.support.recipes import network

pytestmark = pytest.mark.usefixtures("tensorflow_ready")


def model() -> keras.Model:
    return keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, kernel_initializer="ones")])


def test_the_date_does_not_reach_the_model_file(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.backend.clear_session()
    now = model_bytes(model())
    keras.backend.clear_session()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert model_bytes(model()) == now
    with zipfile.ZipFile(io.BytesIO(now)) as archive:
        assert "date" not in archive.read("metadata.json").decode()


def shared_initializer(before: int) -> bytes:
    """A model whose layers share an initializer, built where memory holds other things already."""
    kept = [keras.initializers.GlorotUniform(seed=1) for _ in range(before)]
    keras.backend.clear_session()
    initializer = keras.initializers.GlorotUniform(seed=2)
    both = [keras.layers.Dense(3, kernel_initializer=initializer, name=f"dense_{i}") for i in (1, 2)]
    content = model_bytes(keras.Sequential([keras.layers.Input((3,)), *both], name="twins"))
    assert len(kept) == before
    return content


def test_addresses_in_memory_do_not_reach_the_model_file() -> None:
    assert shared_initializer(0) == shared_initializer(1000)


def test_a_model_file_is_loaded_again_with_its_weights(tmp_path_factory: pytest.TempPathFactory) -> None:
    from stages.recipes.shared.models import layer_seeds

    own = network(batch_norm=True).build((28, 28), 10, layer_seeds(0))
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    path.write_bytes(model_bytes(own))
    again = keras.saving.load_model(path, compile=False, safe_mode=True)
    for a, b in zip(again.get_weights(), own.get_weights(), strict=True):
        assert (a == b).all()
