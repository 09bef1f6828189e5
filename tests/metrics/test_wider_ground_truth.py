from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from facekit.errors import FacekitError
from facekit.metrics.wider import find_wider_ground_truth, read_wider_ground_truth
from tests.metrics.wider_files import cells


def column(values: Sequence[int]) -> NDArray[np.uint8]:
    return np.array(values, dtype=np.uint8).reshape(-1, 1)


def save_official_files(folder: Path, hard: Sequence[int] = (1, 2), attributes: bool = True) -> None:
    """Event a with pictures p (two faces) and q (one face), event b with r (one face)."""
    folder.mkdir(parents=True, exist_ok=True)
    boxes = [[[[1, 2, 3, 4], [5, 6, 7, 8]], [[9, 9, 9, 9]]], [[[0, 0, 300, -2]]]]
    shared = {
        "event_list": cells(["0--a", "1--b"]),
        "file_list": cells([cells(["p", "q"]), cells(["r"])]),
        "face_bbx_list": cells([cells([np.array(faces, dtype=np.int32) for faces in event]) for event in boxes]),
    }
    if attributes:
        # The k-th attribute, counted from 0, of the faces of p, q and r.
        for k, name in enumerate(("blur", "expression", "illumination", "invalid", "occlusion", "pose")):
            codes = [cells([column([k, 0]), column([k + 1])]), cells([column([2])])]
            shared[f"{name}_label_list"] = cells(codes)
    savemat(folder / "wider_face_val.mat", shared)
    indices: dict[str, list[list[Sequence[int]]]] = {
        "easy": [[[], []], [[]]],
        "medium": [[[2], []], [[1]]],
        "hard": [[hard, [1]], [[]]],
    }
    for subset, events in indices.items():
        nested = [cells([column(faces) for faces in event]) for event in events]
        savemat(folder / f"wider_{subset}_val.mat", {"gt_list": cells(nested)})


class TestOfficialFiles:
    def test_read(self, tmp_path: Path) -> None:
        save_official_files(tmp_path)
        ground_truth = read_wider_ground_truth(tmp_path)
        assert ground_truth.names == ("0--a/p", "0--a/q", "1--b/r")
        assert [boxes.tolist() for boxes in ground_truth.boxes_xywh] == [
            [[1, 2, 3, 4], [5, 6, 7, 8]],
            [[9, 9, 9, 9]],
            [[0, 0, 300, -2]],
        ]
        assert {subset: [mask.tolist() for mask in masks] for subset, masks in ground_truth.counting.items()} == {
            "easy": [[False, False], [False], [False]],
            "medium": [[False, True], [False], [True]],
            "hard": [[True, True], [True], [False]],
        }

    def test_attributes(self, tmp_path: Path) -> None:
        save_official_files(tmp_path)
        attributes = read_wider_ground_truth(tmp_path).attributes
        assert attributes is not None
        assert [rows.tolist() for rows in attributes] == [
            [[0, 1, 2, 3, 4, 5], [0] * 6],
            [[1, 2, 3, 4, 5, 6]],
            [[2] * 6],
        ]
        assert {rows.dtype for rows in attributes} == {np.dtype(np.int8)}

    def test_files_without_attributes(self, tmp_path: Path) -> None:
        save_official_files(tmp_path, attributes=False)
        assert read_wider_ground_truth(tmp_path).attributes is None

    def test_attributes_of_another_number_of_faces(self, tmp_path: Path) -> None:
        save_official_files(tmp_path)
        content = {key: value for key, value in loadmat(tmp_path / "wider_face_val.mat").items() if key[0] != "_"}
        content["pose_label_list"][0, 0][1, 0] = column([0, 0])
        savemat(tmp_path / "wider_face_val.mat", content)
        with pytest.raises(FacekitError, match=r"wider_face_val\.mat: can't be read .*`wider_gt`"):
            read_wider_ground_truth(tmp_path)

    @pytest.mark.parametrize("below", [".", "ground_truth", "eval_tools/ground_truth", "labelv2/val/gt"])
    def test_found_in_the_usual_places(self, tmp_path: Path, below: str) -> None:
        save_official_files(tmp_path / below)
        assert find_wider_ground_truth(tmp_path) == tmp_path / below
        assert len(read_wider_ground_truth(tmp_path).names) == 3

    def test_missing_files_are_named_with_where_it_looked(self, tmp_path: Path) -> None:
        save_official_files(tmp_path / "ground_truth")
        (tmp_path / "ground_truth" / "wider_hard_val.mat").unlink()
        with pytest.raises(FacekitError) as caught:
            read_wider_ground_truth(tmp_path)
        message = str(caught.value)
        assert f"wider_hard_val.mat missing in {tmp_path / 'ground_truth'};" in message
        assert str(tmp_path / "eval_tools" / "ground_truth") in message
        assert "wider_easy_val.mat" not in message
        assert "`wider_gt`" in message

    @pytest.mark.parametrize("name", ["wider_face_val.mat", "wider_medium_val.mat"])
    @pytest.mark.parametrize("length", [0, 50, 200])
    def test_damaged_file_is_named(self, tmp_path: Path, name: str, length: int) -> None:
        save_official_files(tmp_path)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
        with pytest.raises(FacekitError, match=f"{name}: can't be read .*`wider_gt`"):
            read_wider_ground_truth(tmp_path)

    def test_a_list_of_its_own_order_is_read_by_names(self, tmp_path: Path) -> None:
        save_official_files(tmp_path)
        counting = cells([cells([column([1])]), cells([column([1]), column([2])])])
        listed = {"event_list": cells(["1--b", "0--a"]), "file_list": cells([cells(["r"]), cells(["q", "p"])])}
        savemat(tmp_path / "wider_hard_val.mat", {"gt_list": counting, **listed})
        masks = read_wider_ground_truth(tmp_path).counting["hard"]
        assert [mask.tolist() for mask in masks] == [[False, True], [True], [True]]

    @pytest.mark.parametrize(
        ("second", "words"),
        [(["q", "x"], "lists 0--a/x, which"), (["q"], "doesn't list 0--a/p, which wider_face_val.mat does")],
    )
    def test_a_list_of_other_pictures(self, tmp_path: Path, second: list[str], words: str) -> None:
        save_official_files(tmp_path)
        first = ["p"] * (len(second) - 1)
        listed = {"event_list": cells(["1--b", "0--a"]), "file_list": cells([cells(["r"]), cells([*first, *second])])}
        counting = cells([cells([column([1])]), cells([column([1])] * (len(first) + len(second)))])
        savemat(tmp_path / "wider_hard_val.mat", {"gt_list": counting, **listed})
        with pytest.raises(FacekitError, match=f"wider_hard_val.mat: .*{words}"):
            read_wider_ground_truth(tmp_path)

    @pytest.mark.parametrize("index", [0, 3])
    def test_index_without_a_face(self, tmp_path: Path, index: int) -> None:
        save_official_files(tmp_path, hard=(index,))
        with pytest.raises(FacekitError, match=f"wider_hard_val.mat: .*0--a/p: face {index} of 2"):
            read_wider_ground_truth(tmp_path)
