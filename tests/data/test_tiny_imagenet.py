"""Tiny ImageNet from every layout that is in use, and what is refused."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ticketlab.data.load import load
from ticketlab.data.types import Augment, Data
from ticketlab.engine.recipe import default_for
from ticketlab.errors import InputError
from ticketlab.models.registry import build

from .layouts import jpeg, tiny_pictures, tree, zipped

Contents = dict[str, bytes]
ANNOTATIONS = "val/val_annotations.txt"
made = cache(tiny_pictures)


def official() -> Contents:
    return dict(made())


def wnid_of(contents: Contents, number: int = 0) -> str:
    return sorted(contents["wnids.txt"].decode().split())[number]


def moved(contents: Contents, inner: str = "") -> Contents:
    """The validation pictures in class folders, as the usual scripts leave them: the annotations are gone."""
    wnids = dict(line.split("\t")[:2] for line in contents[ANNOTATIONS].decode().splitlines())
    kept = {name: content for name, content in contents.items() if not name.startswith("val/")}
    return kept | {f"val/{wnid}/{inner}{file}": contents[f"val/images/{file}"] for file, wnid in wnids.items()}


def flat(contents: Contents) -> Contents:
    """Training pictures right in their class folders."""
    return {re.sub("^(train/.*)/images/", r"\1/", name): content for name, content in contents.items()}


def without(contents: Contents, *names: str) -> Contents:
    return {name: content for name, content in contents.items() if name not in names}


def under(top: str, contents: Contents) -> Contents:
    return {f"{top}/{name}": content for name, content in contents.items()}


LAYOUTS: dict[str, Callable[[Path, Contents], None]] = {
    "official": lambda f, c: tree(f, c),
    "official, folder above": lambda f, c: tree(f / "tiny-imagenet-200", c),
    "official, plain name": lambda f, c: tree(f / "tiny-imagenet", c),
    "no wnids.txt": lambda f, c: tree(f, without(c, "wnids.txt")),
    "Windows line ends": lambda f, c: tree(
        f, c | {name: c[name].replace(b"\n", b"\r\n") for name in ("wnids.txt", ANNOTATIONS)}
    ),
    "moved": lambda f, c: tree(f, moved(c)),
    "moved, images": lambda f, c: tree(f, moved(c, "images/")),
    "moved, annotations left": lambda f, c: tree(f, moved(c) | {ANNOTATIONS: c[ANNOTATIONS]}),
    "moved, empty images left": lambda f, c: tree(f, moved(c) | {"val/images/.DS_Store": b""}),
    "moved and flat": lambda f, c: tree(f, flat(moved(c))),
    "flat, jpg": lambda f, c: tree(
        f, {re.sub(r"(train.*)JPEG$", r"\1jpg", n): content for n, content in flat(c).items()}
    ),
    "zip": lambda f, c: zipped(f / "tiny-imagenet-200.zip", under("tiny-imagenet-200", c)),
    "zip without top": lambda f, c: zipped(f / "tiny-imagenet-200.zip", c),
    "zip, moved": lambda f, c: zipped(f / "tiny-imagenet-200.zip", under("tiny-imagenet-200", moved(c))),
}


def expected(contents: Contents, part: str) -> tuple[np.ndarray, list[int]]:
    """What Pillow makes of the pictures, by class and name, and their classes."""
    wnids = sorted(contents["wnids.txt"].decode().split())
    val = dict(line.split("\t")[:2] for line in contents[ANNOTATIONS].decode().splitlines())
    rows = []
    for name in contents:
        if name.startswith(part) and name.endswith("JPEG"):
            file = name.split("/")[-1]
            rows.append((wnids.index(val[file] if part == "val" else name.split("/")[1]), file, name))
    pictures = [Image.open(io.BytesIO(contents[name])).convert("RGB") for *_, name in sorted(rows)]
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures]), [row[0] for row in sorted(rows)]


def loaded(folder: Path, contents: Contents) -> Data:
    tree(folder, contents)
    return load("tiny-imagenet", folder)


def refused(folder: Path, *says: str) -> None:
    with pytest.raises(InputError) as error:
        load("tiny-imagenet", folder)
    for part in says:
        assert re.search(part, str(error.value)), str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    LAYOUTS[layout](tmp_path / "given", official())
    data = load("tiny-imagenet", tmp_path / "given")
    assert (data.classes, data.in_shape, data.augment) == (200, (3, 64, 64), Augment(4, True))
    assert (len(data.train), len(data.test)) == (400, 200)
    for split, part in ((data.train, "train"), (data.test, "val")):
        pictures, classes = expected(official(), part)
        assert split.inputs.dtype == torch.uint8 and split.targets.dtype == torch.int64
        np.testing.assert_array_equal(split.inputs.numpy(), pictures)
        assert split.targets.tolist() == classes


def test_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "tiny-imagenet-200", official())
    monkeypatch.setenv("TICKETLAB_DATA", str(tmp_path))
    assert len(load("tiny-imagenet").test) == 200


def test_class_numbers_do_not_depend_on_any_order(tmp_path: Path) -> None:
    contents = official()
    lines = contents["wnids.txt"].decode().split()
    assert lines != sorted(lines)
    first = loaded(tmp_path / "a", contents)
    backwards = dict(reversed(contents.items())) | {"wnids.txt": "\n".join(reversed(lines)).encode()}
    backwards[ANNOTATIONS] = b"\n".join(reversed(contents[ANNOTATIONS].splitlines()))
    assert loaded(tmp_path / "b", backwards).fingerprint == first.fingerprint
    assert first.train.targets.tolist() == [c for c in range(200) for _ in range(2)]


def test_grey_and_other_modes_become_rgb(tmp_path: Path) -> None:
    contents, rng = official(), np.random.default_rng(3)
    wnid = wnid_of(contents)
    grey, cmyk = jpeg(rng, (64, 64)), io.BytesIO()
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(cmyk, "JPEG")
    contents[f"train/{wnid}/images/{wnid}_0.JPEG"] = grey
    contents[f"train/{wnid}/images/{wnid}_1.JPEG"] = cmyk.getvalue()
    first, second = loaded(tmp_path, contents).train.inputs[:2]
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(grey))))
    assert pixels.ndim == 2 and all(torch.equal(channel, pixels) for channel in first)
    assert second.shape == (3, 64, 64) and (second.float().mean((1, 2))).tolist() == pytest.approx([255, 0, 0], abs=3)


def test_limits_spread_over_the_classes(tmp_path: Path) -> None:
    tree(tmp_path, official())
    data = load("tiny-imagenet", tmp_path, limit_train=200, limit_test=50)
    assert data.train.targets.tolist() == list(range(200)) and len(data.test) == 50


def test_second_load_does_not_decode(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = official()
    fresh = loaded(tmp_path / "d", contents)
    with monkeypatch.context() as patch:
        patch.setattr("ticketlab.data.tiny_imagenet._decoded", None)
        assert load("tiny-imagenet", tmp_path / "d").fingerprint == fresh.fingerprint
    wnid, picture = wnid_of(contents), jpeg(np.random.default_rng(5))
    folder = tmp_path / "d" / "train" / wnid / "images"
    (folder / f"{wnid}_2.JPEG").write_bytes(picture)  # one more
    assert len(load("tiny-imagenet", tmp_path / "d").train) == 401
    (folder / f"{wnid}_2.JPEG").unlink()
    (folder / "new").write_bytes(picture)
    os.replace(folder / "new", folder / f"{wnid}_0.JPEG")  # another in its place
    replaced = load("tiny-imagenet", tmp_path / "d")
    assert len(replaced.train) == 400 and replaced.fingerprint != fresh.fingerprint
    lines = contents[ANNOTATIONS].splitlines(keepends=True)
    swapped = [lines[0].replace(*(line.split(b"\t")[1] for line in lines[:2])), *lines[1:]]
    (tmp_path / "d" / ANNOTATIONS).write_bytes(b"".join(swapped))  # class of the first picture: now that of the second
    refused(tmp_path / "d", "val for pictures of all 200 classes, got none of n\\d+$")


def test_zip_is_cached_and_read_anew_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, path = official(), tmp_path / "tiny-imagenet-200.zip"
    zipped(path, contents)
    fresh = load("tiny-imagenet", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("ticketlab.data.tiny_imagenet._decoded", None)
        assert load("tiny-imagenet", tmp_path).fingerprint == fresh.fingerprint
    wnid = wnid_of(contents)
    zipped(path, contents | {f"train/{wnid}/images/more.JPEG": jpeg(np.random.default_rng(5))})
    assert len(load("tiny-imagenet", tmp_path).train) == 401
    assert sorted(child.name for child in tmp_path.iterdir()) == ["cache", path.name]  # nothing is extracted


def test_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, official())
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    refused(tmp_path, "needs PIL", r"pip install 'ticketlab\[data\]'")


def test_folder_without_the_data(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    refused(tmp_path, "tiny-imagenet.*holds (cache/, )?train/", r"tiny-imagenet-200\.zip, or train with val")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no picture", "something else"),
        (b"", "something else"),
        (jpeg(np.random.default_rng(1))[:-300], "something else: .*truncated"),
        (jpeg(np.random.default_rng(1), (64, 63, 3)), "^asked for a picture of 64x64 .*got 63x64$"),
        (jpeg(np.random.default_rng(1), (5000, 5000, 3)), "^asked for a picture of 64x64 .*got 5000x5000$"),
        (jpeg(np.random.default_rng(1), kind="TIFF"), "something else"),
        (bytes(2_000_000), "at most 1048576 bytes .*got more"),
    ],
    ids=["text", "empty", "truncated", "narrow", "huge", "other format", "large file"],
)
@pytest.mark.parametrize("archive", [False, True])
def test_damaged_picture(tmp_path: Path, content: bytes, says: str, archive: bool) -> None:
    contents = official()
    wnid = wnid_of(contents)
    contents[f"train/{wnid}/images/{wnid}_1.JPEG"] = content
    if archive:
        zipped(tmp_path / "tiny-imagenet-200.zip", contents)
    else:
        tree(tmp_path, contents)
    refused(tmp_path, says, f"train/{wnid}/images/{wnid}_1.JPEG")


def test_damaged_zip(tmp_path: Path) -> None:
    path = tmp_path / "tiny-imagenet-200.zip"
    zipped(path, official())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "archive .*tiny-imagenet-200.zip, got a damaged file")
    start = whole.index(b"train/" + wnid_of(official()).encode() + b"/images")
    path.write_bytes(whole[: start + 100] + bytes(50) + whole[start + 150 :])
    refused(tmp_path, rf"asked for .*train/{wnid_of(official())}/images/\S+_0.JPEG, got: ")


def test_annotations_that_are_missing_or_wrong(tmp_path: Path) -> None:
    contents = official()
    tree(tmp_path, contents)
    path, text = tmp_path / ANNOTATIONS, contents[ANNOTATIONS].decode()
    for changed, says in (
        (text + "val_999.JPEG\tn00000007\t0\t0\t1\t1\n", r"line 201, .*got 'val_999.JPEG\\tn00000007"),
        (text + text.splitlines()[0], r"line 201, .*not named before.*got 'val_0.JPEG"),
        (text + "val_3.JPEG", "line 201, .*a tab and its class"),
        (text.partition("\n")[2], "the class of every picture in val/images, got none for val_0.JPEG"),
        (re.sub(r"\tn\d+", "\tn99", text, count=1), "of its 200 classes, got val/images/val_0.JPEG of class 'n99'"),
    ):
        path.write_text(changed)
        refused(tmp_path, says)
    path.unlink()
    refused(tmp_path, r"asked for .*val/val_annotations.txt, got 200 pictures in val/images and no such file")


def test_classes_that_are_missing_or_too_many(tmp_path: Path) -> None:
    contents = official()
    first = wnid_of(contents)
    lacking = {name: content for name, content in contents.items() if f"/{first}/images/" not in name}
    tree(tmp_path / "a", lacking)
    (tmp_path / "a" / "train" / first / "images").mkdir()
    refused(tmp_path / "a", f"train for pictures of all 200 classes, got none of {first}")
    tree(tmp_path / "b", without(lacking, "wnids.txt"))
    refused(tmp_path / "b", "b/train for 200 classes, got 199")
    tree(tmp_path / "c", contents | {"wnids.txt": b"n1\nn2\n"})
    refused(tmp_path / "c", "wnids.txt for 200 classes, got 2")
    tree(tmp_path / "d", contents | {"train/other/x.JPEG": b""})
    refused(tmp_path / "d", "of its 200 classes, got train/other/x.JPEG of class 'other'")
    tree(tmp_path / "e", {"train/a.txt": b"", "val/a.txt": b"", "wnids.txt": contents["wnids.txt"]})
    refused(tmp_path / "e", r"train for pictures of all 200 classes, got none of (n\d+, ){2}n\d+ and 197 more")


def test_picture_that_is_there_twice(tmp_path: Path) -> None:
    """Scripts that copy the validation pictures to their classes leave them in val/images as well."""
    tree(tmp_path, official() | moved(official()))
    refused(tmp_path, r"every picture once, got val/images/(val_\d+.JPEG) and val/n\d+/\1")


def test_recipe_as_published() -> None:
    recipe = default_for("tiny-imagenet")
    assert (recipe.epochs, recipe.batch_size) == (300, 64)
    assert [recipe.lr_at(epoch) for epoch in (0, 149, 150, 224, 225, 299)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


@pytest.mark.parametrize("name", ["resnet32-su2020", "vgg19"])
def test_networks_take_its_pictures(name: str) -> None:
    network = build(name, 200, (3, 64, 64)).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 200)
