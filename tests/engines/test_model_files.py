from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import model_files
from engines.errors import ModelError
from engines.model_files import model_file
from engines.spec import load_model
from tests.pipeline.made_runs import write_model


def write(path: Path, *, external: bool) -> None:
    weights = numpy_helper.from_array(np.ones(2000, np.float32), "location")  # a name must not be taken for a path
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "location"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2000])],
        [weights],
    )
    onnx.save(helper.make_model(graph), path, save_as_external_data=external, location="weights.bin")


def test_tensors_in_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "whole.onnx", external=False)
    write(tmp_path / "parts.onnx", external=True)
    for chunk in (model_files.CHUNK, 64):  # found over the border of two chunks, too
        monkeypatch.setattr(model_files, "CHUNK", chunk)
        assert model_file(tmp_path, "whole.onnx") == tmp_path / "whole.onnx"
        with pytest.raises(ModelError, match=r"parts.onnx has tensors in other files"):
            model_file(tmp_path, "parts.onnx")


@pytest.mark.parametrize("name", ["../frame.onnx", "/etc/passwd", "a/b.onnx", ".."])
def test_a_file_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "model").path
    spec = msgspec.json.decode((folder / "spec.json").read_bytes())
    spec["frame"]["file"] = name
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    with pytest.raises(ModelError, match="must name files of the folder itself"):
        load_model(folder)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model").path
    monkeypatch.setattr(model_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(ModelError, match=r"frame.onnx has \d+ bytes, but must have at most 10"):
        load_model(folder)
    with (folder / "spec.json").open("wb") as file:
        file.truncate(2**40)  # no disk has to have it
    with pytest.raises(ModelError, match=r"spec.json has more than 1048576 bytes"):
        load_model(folder)
