"""Tables: one row per method and settings, one column per data set, nothing shown as what it is not."""

from __future__ import annotations

import itertools

import pytest

from objloc_ros.evaluation.report.markup import format_cell, list_headers, list_labels, list_notes
from objloc_ros.evaluation.report.published import load_rows
from objloc_ros.evaluation.report.tables import assemble, describe_settings

SLIDES = load_rows()[0].source
SALIENCY = {"accuracy": 0.9, "iou": 0.7, "maxf_selfmask": 0.8, "maxf_tokencut": 0.75, "mae": 0.05}


def shown(table):
    """The table's texts: the header, then labels and cells of each row."""
    rows = zip(list_labels(table), table.rows, strict=True)
    return list_headers(table), [[*label, *map(format_cell, row.cells)] for label, row in rows]


def only(report):
    (table,) = report.tables
    return table


def test_data_sets_share_a_row_and_other_options_do_not(run) -> None:
    runs = [
        run("dino_seg", metrics={"corloc": 0.4581}),
        run(),
        run(dataset="voc12", images=11540, metrics={"corloc": 0.64}),
        run(options={"k_patches": 50, "post": "none"}, metrics={"corloc": 0.6}),
        run(
            options={"k_patches": 100}, dataset="coco20k", images=19817, metrics={"corloc": 0.5}
        ),  # the default, stated
    ]
    headers, rows = shown(only(assemble(runs)))
    assert headers == ["VOC07", "VOC12", "COCO20k"]
    assert rows == [
        ["DINO-seg", "dino_vits16", "", "45.8 / 45.8", "– / 46.2", "– / 42.1"],
        ["LOST", "dino_vits16", "", "61.7 / 61.9", "64.0 / 64.0", "50.0 / 50.7"],
        ["LOST", "dino_vits16", "k_patches 50", "60.0 / –", "", ""],
    ]


def test_the_order_of_the_results_does_not_matter(run) -> None:
    runs = [run(), run("found", "dino_vits8"), run("lost", "tiny", images=9), run(options={"k_patches": 7}, folder="b")]
    reports = {str(assemble(order)) for order in itertools.permutations(runs)}
    assert len(reports) == 1


@pytest.mark.parametrize(
    ("images", "text"), [(5011, "61.7 / 61.9"), (200, "61.7 (n=200) / 61.9"), (5012, "61.7 (n=5012) / 61.9")]
)
def test_a_part_of_a_data_set_never_looks_like_all_of_it(run, images, text) -> None:
    table = only(assemble([run(images=images)]))
    assert shown(table)[1] == [["LOST", "dino_vits16", text]]
    note = "n: number of images of a run that is not known to be of the whole data set (VOC07 has 5011)."
    assert (note in list_notes(table)) == (images != 5011)


def test_a_part_and_the_whole_are_two_rows(run) -> None:
    rows = shown(only(assemble([run(images=200, folder="b"), run(folder="a")])))[1]
    assert [row[-1] for row in rows] == ["61.7 / 61.9", "61.7 (n=200) / 61.9"]


def test_other_data_and_other_splits_have_columns_of_their_own_and_nothing_published(run) -> None:
    runs = [run(), run(split="test", images=4952), run(dataset="my photos", images=12)]
    headers, rows = shown(only(assemble(runs)))
    assert headers == ["VOC07", "my photos", "voc07 test"]
    assert list_notes(only(assemble(runs)))[-1].endswith("(VOC07 has 5011).")
    assert list_notes(only(assemble(runs[2:])))[-1].endswith("of the whole data set.")
    assert rows == [["LOST", "dino_vits16", "61.7 / 61.9", "61.7 (n=12) / –", "61.7 (n=4952) / –"]]


def test_two_conventions_on_the_same_data_are_told_apart(run) -> None:
    runs = [
        run(protocol={"no_hard": True, "iou": 0.5}, images=3000),
        run(protocol={"no_hard": False, "iou": 0.5}),
        run(protocol={"rule": "x"}, dataset="voc12", images=11540),
    ]
    rows = shown(only(assemble(runs)))[1]
    assert [row[2:] for row in rows] == [
        ["", "– / 61.9", "61.7 / 64.0"],
        ["no_hard false", "61.7 / 61.9", "– / 64.0"],
        ["no_hard true", "61.7 (n=3000) / 61.9", "– / 64.0"],
    ]


def test_saliency_keeps_the_protocols_of_maxf_apart(run) -> None:
    sets = {"kind": "saliency", "metrics": SALIENCY, "dataset": "ecssd", "images": 1000}
    table = only(assemble([run("found", "dino_vits8", **sets), run("tokencut", **sets)]))
    headers, rows = shown(table)
    assert headers == ["ECSSD Acc", "ECSSD IoU", "ECSSD maxF SelfMask", "ECSSD maxF TokenCut"]
    assert rows == [
        ["TokenCut", "dino_vits16", "90.0 / 91.8", "70.0 / 71.2", "80.0 / –", "75.0 / 80.3"],
        ["FOUND", "dino_vits8", "90.0 / 94.9", "70.0 / 80.7", "80.0 / 95.5", "75.0 / –"],
    ]
    assert [note for note in list_notes(table) if note.startswith("Published figures: ")] == [
        f"Published figures: {SLIDES}."
    ]
    assert any("They are not comparable" in note for note in list_notes(table))


def test_detection_and_corloc_of_one_run_stand_in_two_tables(run) -> None:
    report = assemble([run("maskcut", "tiny", metrics={"corloc": 0.5, "ap50": 0.4, "ap": 0.2, "ar100": 0.6})])
    assert [table.name for table in report.tables] == ["corloc", "detection"]
    headers, rows = shown(report.tables[1])
    assert headers == ["VOC07 AP50", "VOC07 AP", "VOC07 AR100"]  # no column for AP75, which nobody has
    assert rows == [["MaskCut", "tiny", "40.0 / –", "20.0 / –", "60.0 / –"]]


def test_masks_and_ranks_have_tables_of_their_own(run) -> None:
    metrics = {"ap": 0.1, "ar1": 0.2, "ar10": 0.3, "mask_ap50": 0.4, "mask_ar100": 0.5, "rank_ap50": 0.06}
    report = assemble([run("detector", "tiny", dataset="coco20k", images=19817, metrics=metrics)], others=True)
    assert [table.name for table in report.tables] == ["detection", "masks", "rank"]
    boxes, masks, rank = map(shown, report.tables)
    assert boxes[0] == [f"COCO20k {name}" for name in ("AP50", "AP", "AR1", "AR10", "AR100")]
    assert ["token detector", "tiny", "", "10.0 / –", "20.0 / –", "30.0 / –", ""] in boxes[1]
    assert masks == (["COCO20k AP50", "COCO20k AR100"], [["token detector", "tiny", "40.0 / –", "50.0 / –"]])
    assert ["token detector", "tiny", "", "6.0 / –", ""] in rank[1]
    assert ["LOD", "vgg16", "", "– / 6.6", "– / 2.0"] in rank[1]
    assert any("no score" in note for note in list_notes(report.tables[2]))


def test_miou(run) -> None:
    fields = {"kind": "semantic", "dataset": "voc_seg", "split": "val", "images": 1449, "metrics": {"miou": 0.59}}
    table = only(assemble([run("clip_diy", "dino_vits8", options={"clip": "clip_vitb32"}, **fields)]))
    assert shown(table) == (["VOC12 val"], [["CLIP-DIY", "dino_vits8", "clip clip_vitb32", "59.0 / 59.9"]])


def test_miou_of_another_convention_stands_beside_nothing(run) -> None:
    fields = {"kind": "semantic", "dataset": "voc_seg", "split": "val", "images": 1449, "metrics": {"miou": 0.59}}
    mine = run("clip_diy", "dino_vits8", options={"clip": "clip_vitb32"}, protocol={"convention": "mmseg"}, **fields)
    assert shown(only(assemble([mine])))[1] == [["CLIP-DIY", "dino_vits8", "clip clip_vitb32", "59.0 / –"]]


def test_published_rows_that_nobody_ran_are_added_when_asked_for(run) -> None:
    table = only(assemble([run()], others=True))
    rows = shown(table)[1]
    assert ["LOST", "dino_vits16", "", "61.7 / 61.9"] in rows
    assert ["LOST", "dino_vits16", "CAD", "– / 65.7"] in rows
    assert ["Selective Search", "", "", "– / 18.8"] in rows
    assert len(rows) == 1 + 18
    assert not any(row[0].startswith(("CutLER", "MaskCLIP")) for row in rows)


def test_what_no_table_has_is_named(run) -> None:
    report = assemble([run(metrics={"steps": 3.0}, folder="odd"), run()], {"z": "cut", "y": "empty"})
    assert report.left_out == ("odd",)
    assert report.refused == (("y", "empty"), ("z", "cut"))


def test_failed_images_are_told(run) -> None:
    table = only(assemble([run(failed={"a": "gone", "b": "gone"}, folder="mine")]))
    assert list_notes(table)[-1] == "mine: 2 of the images failed."


def test_nothing_gives_nothing() -> None:
    assert assemble([]).tables == ()


def test_settings_name_only_what_is_special(run) -> None:
    options = {"k_patches": 100, "post": "crf", "short_side": None, "x": [1, 2]}
    assert describe_settings(run(options=options)) == "post crf, x [1, 2]"
    assert describe_settings(run("unheard_of", options={"b": True, "a": 0.5})) == "a 0.5, b true"
