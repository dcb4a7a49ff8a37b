import numpy as np
import pytest

from sfc.dense_crf import refine_cams


def test_confident_labels(golden):
    pytest.importorskip("pydensecrf")
    arrays = golden("confident_labels")
    refined, confident = refine_cams(
        arrays["image"],
        arrays["cam"],
        arrays["keys"].tolist(),
        mode="label",
        iterations=10,
        gt_prob=0.7,
        confident_bg_scale=0.5,
        gaussian_sxy=3.0,
        gaussian_compat=3.0,
        bilateral_sxy=50.0,
        bilateral_srgb=5.0,
        bilateral_compat=10.0,
    )
    np.testing.assert_array_equal(refined, arrays["fg"])
    np.testing.assert_array_equal(confident, arrays["confident"])
    np.testing.assert_array_equal(confident == 0, (arrays["fg"] == 0) & (arrays["bg"] == 0))
