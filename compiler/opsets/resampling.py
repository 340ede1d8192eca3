"""Upsample, Resize, GridSample, RoiAlign: where the coordinates lie, which older versions did not have to say."""

from __future__ import annotations

import numpy as np

from .step import Site, Stop


def upsample_scales(site: Site) -> None:
    """Upsample-9: the scales are the second input."""
    site.give(1, site.constant("scales", np.asarray(site.take("scales"), dtype=np.float32)))


def upsample(site: Site) -> None:
    """Upsample became Resize in 10; its scales are at least 1, its coordinates those of `_resize`."""
    site.node.op_type = "Resize"
    _resize(site, "floor")


def resize(site: Site) -> None:
    """Resize-11: coordinates are stated; those of 10 were x/scale, the nearest below when enlarging, above else."""
    if site.stated("coordinate_transformation_mode") is not None:
        return  # was an Upsample
    if site.stated("mode") == "linear":
        _resize(site, "floor")
        return
    contents = site.contents(site.input(1))
    if contents is None:
        raise Stop("its scales are computed, and Resize-10 rounds by whether it enlarges")
    scales = contents.astype(np.float64)
    if bool(np.all(scales >= 1)):
        _resize(site, "floor")
    elif bool(np.all(scales <= 1)):
        _resize(site, "ceil")
    else:
        raise Stop("it enlarges and shrinks at once, for which Resize-10 rounds in two ways")


def _resize(site: Site, nearest: str) -> None:
    site.state("coordinate_transformation_mode", "asymmetric")
    if site.stated("mode") != "linear":
        site.state("nearest_mode", nearest)
    scales = site.input(1)
    site.give(1, None)
    site.give(2, scales)


def resize_optional(site: Site) -> None:
    """Resize-13: an empty tensor no longer stands for absent scales."""
    if site.stated("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        raise Stop("its coordinates, tf_half_pixel_for_nn, do not exist any more")
    if site.input(3) is not None:
        site.give(2, None)  # sizes were only allowed beside empty scales
    roi = site.contents(site.input(1))
    if roi is not None and roi.size == 0:
        site.give(1, None)


def grid_sample(site: Site) -> None:
    """GridSample-20: the modes lost the prefix that says two dimensions."""
    mode = site.stated("mode")
    if mode in ("bilinear", "bicubic"):
        site.state("mode", mode.removeprefix("bi"))


def roi_align(site: Site) -> None:
    """RoiAlign-16: the new default shifts by half a pixel."""
    site.state("coordinate_transformation_mode", "output_half_pixel")
